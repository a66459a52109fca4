"""The nodes of a graph as jobs of a SLURM cluster; the store on the shared file system is the only state."""
