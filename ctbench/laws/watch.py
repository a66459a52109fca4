"""A stand-in for a method that records which hooks change weights, and how many updates a stage makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ctbench.backbone import Batch
from ctbench.laws.difference import difference
from ctbench.method import Method
from ctbench.stage import Stage


class Watch:
    """Takes the place of a method in a stage, forwards every hook, and records which hooks change weights.

    Attributes:
        num_updates: updates of all optimisers.
        moved: the first weight that each hook changed, by name of the hook; only `after_step` and `end` may change weights.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.num_updates = 0
        self.moved: dict[str, str] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the updates of all optimisers inside the block."""

        def count(*_: Any) -> None:
            self.num_updates += 1

        handle = register_optimizer_step_post_hook(count)
        try:
            yield
        finally:
            handle.remove()

    def begin(self, stage: Stage) -> None:
        """Forward `begin`."""
        with self._watching("begin", stage):
            self.method.begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        """Forward `loss`."""
        with self._watching("loss", stage):
            return self.method.loss(stage, batch)

    def after_backward(self, stage: Stage) -> None:
        """Forward `after_backward`."""
        with self._watching("after_backward", stage):
            self.method.after_backward(stage)

    def after_step(self, stage: Stage) -> None:
        """Forward `after_step`, which may change weights."""
        self.method.after_step(stage)

    def end(self, stage: Stage) -> None:
        """Forward `end`, which may change weights."""
        self.method.end(stage)

    @contextmanager
    def _watching(self, hook: str, stage: Stage) -> Iterator[None]:
        before = {name: value.detach().clone() for name, value in stage.backbone.named_parameters()}
        yield
        moved = difference(before, dict(stage.backbone.named_parameters()))
        if moved:
            self.moved.setdefault(hook, moved)
