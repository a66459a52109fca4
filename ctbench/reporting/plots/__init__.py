"""The plots: one figure per kind."""
