"""Separate: train one LM per domain, each from the untouched LM.

Gururangan, Marasovic, Swayamdipta, Lo, Beltagy, Downey, Smith, 2020, arXiv:2004.10964 (domain-adaptive pre-training).
Every domain gets an LM of its own, trained on that domain's text alone, so nothing is forgotten and nothing is passed
on from one domain to another:

    theta_j = argmin L_lm(theta; x_j) from theta_0

A cell fine-tunes the LM of its task's domain, from that domain's stage on; before, there is none and the cell is that
of the untouched LM. So the domain of a task must be known, and T domains cost T LMs.

Differs from the paper: the budget of each LM is the recipe's, a small one; tasks unseen so far fall back on the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctbench import Method, Plan, Traits, one_per_domain

if TYPE_CHECKING:
    from ctbench import Stream


class Separate(Method):
    """One LM per domain."""

    paper: ClassVar[str] = "arXiv:2004.10964"
    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)

    def plan(self, stream: Stream) -> Plan:
        return one_per_domain(stream.names)
