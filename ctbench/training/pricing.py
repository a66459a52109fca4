"""What a stage costs, measured on a few of its updates.

FLOPs depend on shapes alone, so text and weights do not matter. A stage begins, makes the updates whose operations it
would count, skips the others and ends; the method is told the stage's real number of updates, by which some decide how much
they read when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctbench.method import Method
from ctbench.stage import StageInputs
from ctbench.training.hooks import LoopHooks
from ctbench.training.pretrain import StageLoop


@dataclass(frozen=True, kw_only=True)
class Price:
    """FLOPs of a stage: to begin it, to end it, and of each of its updates."""

    begin: float
    end: float
    update: float


class SampledLoop(StageLoop):
    """A stage that makes only the updates whose operations are counted; what it leaves has the shapes of a real one."""

    def __init__(self, method: Method, inputs: StageInputs) -> None:
        super().__init__(method, inputs)
        self._looks = frozenset()  # gradients of single terms are no part of the stage
        self._begun = 0.0

    @property
    def price(self) -> Price:
        """What the stage costs, once it has run."""
        flops = self.flops
        return Price(
            begin=self._begun, end=flops.whole - self._begun, update=(flops.total - flops.whole) / len(self._counted)
        )

    def _updates(self, first: int, hooks: LoopHooks) -> None:
        self._begun = self.flops.whole
        self.stage.backbone.train()
        for step in sorted(self._counted):
            self._update(step)
