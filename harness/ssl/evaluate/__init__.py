"""What a frozen encoder is worth: nearest neighbours and a linear probe on its features."""
