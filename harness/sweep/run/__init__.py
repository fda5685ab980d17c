"""Cells run on this machine."""
