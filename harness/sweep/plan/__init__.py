"""What cells will cost in time, memory and disk space."""
