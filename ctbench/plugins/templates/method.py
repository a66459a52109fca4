"""Mine: a pull towards the hidden states of the LM of the stage before.

Say here who proposed the method (authors, year, arXiv id), what its idea is, its loss as an equation, and where this
file differs from the paper. The first line is what `ctbench ls methods` shows.

    L = L_lm(theta; x) + weight * |H(x) - H_before(x)|^2 / D
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ctbench import Batch, Method, Stage, Traits, hyper


class Mine(Method):
    """The LM is held near to what it was before the stage."""

    version: ClassVar[int] = 1  # raise it when the numbers change
    paper: ClassVar[str] = ""  # "arXiv:..."
    traits: ClassVar[Traits] = Traits(stores_text=False, needs_domain=False, grows=False)

    weight: float = hyper(0.1, low=0.0, tune=(0.03, 0.1, 0.3))
    """Weight of the distance from the hidden states of the LM before the stage, at least 0; 0 is naive."""

    # `loss` is one of nine hooks, all optional: plan, build, begin, loss, after_backward, after_step, end, adapt, bake.
    # ctbench/method.py says when each of them is called. A method holds no state: what is trained lives in
    # stage.backbone, what must outlive a step in stage.memory.

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        output = stage.backbone(batch)
        with torch.no_grad():
            before = stage.teacher(batch, lm=False).hidden
        distance = (output.hidden.float() - before.float()).square().mean()
        return {"lm": output.loss, "distance": self.weight * distance}
