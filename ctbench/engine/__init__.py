"""From a job to its result: the graph of nodes, the store, what computes a node and who runs it."""
