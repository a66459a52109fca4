"""What ctbench knows of the machine it runs on: devices, GPUs, precisions and provenance."""
