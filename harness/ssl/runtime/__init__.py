"""Settings of the process that trains: the allocator, compilation, energy counters, the import of torchvision."""
