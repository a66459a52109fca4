"""Who computes the nodes of a graph: this process, local worker processes, a cluster."""
