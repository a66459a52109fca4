"""Joint: train once on the text of all domains together.

Multi-task learning (Caruana 1997; Ruder 2017, arXiv:1706.05098), the bound that continual methods are held against:
all text is there from the beginning, in turn and so in equal shares, so there is no order and no forgetting.
The one stage has the tokens and updates of all T stages together:

    L = L_lm(theta; x),   x from domains 1..T in equal shares

There is no LM between the base and the end of the stream: rows 1 to T - 1 of the matrix are empty, and only scores that
read the last row and row 0 are defined.

Differs from the paper: what is shared is the LM loss of T domains and not T tasks; the learning rate is warmed up and
decayed once over the long stage, where the others do so at every stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctbench import BASE, Method, Plan, Traits

if TYPE_CHECKING:
    from ctbench import Stream


class Joint(Method):
    """One stage on the union of all domains."""

    paper: ClassVar[str] = "arXiv:1706.05098"
    traits: ClassVar[Traits] = Traits(stores_text=True)

    def plan(self, stream: Stream) -> Plan:
        count = len(stream.names)
        return Plan(
            stages=(stream.names,),
            parents=(BASE,),
            cells=((BASE,) * count, *((None,) * count,) * (count - 1), (1,) * count),
        )
