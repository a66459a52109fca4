"""Measure speed: this machine, the engine beside other loops, and how cost grows with the size of a run.

Nothing in the engine imports this package. In a *round* every side does the same work once, one after the other, and ratios
are taken within a round: if the machine is busy for a while, it distorts one round and not the comparison.
"""
