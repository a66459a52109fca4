"""The nodes of a graph on the machines of a Ray cluster, by the same worker processes as everywhere."""
