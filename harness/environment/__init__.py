"""What this process runs on: its GPUs, memory, processor, scheduler job and code revision."""
