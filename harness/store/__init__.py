"""What lies on disk: records of cells, ledgers of sweeps, job arrays, the index over all records."""
