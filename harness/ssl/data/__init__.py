"""Data sets as tensors on the device, and their augmented views."""
