"""What lies on disk: records of cells, the folders of sweeps, the index over all records."""
