"""How speed is measured: this machine, the engine's loops beside the usual choices, and how cost grows with the work.

Everything here sits on top of the engine and only calls it. A measurement is a *round*: every side does the same work
once, one after the other, and ratios are taken within a round, so that a machine that is busy for a while spoils a
round and not the comparison.
"""
