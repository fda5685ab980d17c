"""Cells run as jobs of a Slurm cluster."""
