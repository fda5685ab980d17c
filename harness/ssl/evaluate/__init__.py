"""The evaluation of a frozen encoder: nearest neighbours and a linear probe on its features."""
