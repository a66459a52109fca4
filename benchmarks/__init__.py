"""Streams, one TOML file each; loaded by name through `ctbench.get_stream`."""
