"""The log of a stage's losses, and what a stage leaves behind in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ctbench.errors import RunFailed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOG_EVERY: Final = 10
"""Number of updates per logged point; the losses of a point are means over them."""
STEP: Final = "step"
_NORM: Final = "gradient norm"
RESERVED: Final = ("loss", STEP, _NORM)
"""Names of columns that no term of a loss may have."""
_ADVICE: Final = "lower pretrain.lr, raise pretrain.warmup_fraction or lower pretrain.clip"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a finished stage of pre-training reports.

    Attributes:
        domains: names of the domains that the stage trained on.
        steps: numbers of updates made at the logged points.
        losses: mean of every loss term over the updates of each point, by name; "loss" is their sum.
        notes: numbers that the method recorded (None: not finite).
        tokens: tokens of the stage's own text.
        forward_tokens: tokens that went forward through an LM, those of prompts, teachers and samples included.
        flops: floating-point operations of products of matrices, forward and backward (None: layers were compiled).
        seconds: wall time; `cpu_seconds`: time of the cores.
        peak_memory_bytes: peak memory of the process.
        trained_parameters: number of parameters that trained.
        stored_bytes: size of the memory that the method left.
        probe_steps: numbers of updates after which the stage was probed.
        probes: held-out losses there, by name of the text (None: not finite).
    """

    domains: tuple[str, ...]
    steps: tuple[int, ...]
    losses: Mapping[str, tuple[float, ...]]
    notes: Mapping[str, float | None]
    tokens: int
    forward_tokens: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    trained_parameters: int
    stored_bytes: int
    flops: float | None = None
    probe_steps: tuple[int, ...] = ()
    probes: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


class LossLog:
    """Means of the loss terms over `LOG_EVERY` updates; nothing waits for a GPU between two points.

    A term that an update lacks counts 0 there, so the terms of every point add up to its loss.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
        self._window: list[tuple[int, dict[str, Tensor], Tensor | None]] = []

    def add(self, step: int, terms: Mapping[str, Tensor], *, gradient_norm: Tensor | None) -> None:
        """Add the terms of update `step`, and the norm of its gradient before clipping if it is known."""
        self._window.append((step, {name: term.detach().float() for name, term in terms.items()}, gradient_norm))

    @property
    def window(self) -> dict[str, dict[str, float]]:
        """The terms since the last logged point, by number of the update, with the norm of its gradient if known."""
        found = {}
        for step, terms, norm in self._window:
            values = {name: value.item() for name, value in terms.items()}
            found[str(step)] = values | ({} if norm is None else {_NORM: norm.item()})
        return found

    def restore_window(self, window: Mapping[str, Mapping[str, float]], where: torch.device) -> None:
        """Set the terms since the last logged point to those of a checkpoint."""
        import torch  # `plan` reads records without it

        self._window = []
        for step, values in window.items():
            tensors = {name: torch.tensor(value, dtype=torch.float32, device=where) for name, value in values.items()}
            norm = tensors.pop(_NORM, None)
            self._window.append((int(step), tensors, norm))

    def flush(self, step: int, *, max_loss: float | None = None) -> dict[str, float]:
        """Log a point after `step` updates and return its means.

        Args:
            step: number of updates made.
            max_loss: largest mean of the loss that is no failure.

        Raises:
            RunFailed: a term was NaN or infinite, or the mean of the loss is above `max_loss`.
        """
        sums: dict[str, Tensor] = {}
        for _, terms, _ in self._window:
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
        means = {name: (total / len(self._window)).item() for name, total in sums.items()}
        if not all(math.isfinite(mean) for mean in means.values()):
            raise RunFailed(self._divergence())
        if max_loss is not None and means["loss"] > max_loss:
            raise RunFailed(self._explosion(means, max_loss))
        num_points = len(self.steps)
        for name in {**self.columns, **means, STEP: step}:
            earlier = self.columns.setdefault(name, [0.0] * num_points)
            earlier.append(step if name == STEP else means.get(name, 0.0))
        self._window = []
        return means

    def _divergence(self) -> str:
        """Return which terms of which update were not finite first, and what may help."""
        for step, terms, norm in self._window:
            values = {name: value.item() for name, value in terms.items()}
            broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
            if broken:
                size = "unknown, as gradients are not clipped" if norm is None else f"{norm.item():.3g}"
                return (
                    f"training diverged in update {step + 1}: {', '.join(broken)} (gradient norm {size}); {_ADVICE}; "
                    "nothing of this stage is kept as done"
                )
        return "training diverged: the sum of the losses of ten updates overflows; lower pretrain.lr"

    def _explosion(self, means: Mapping[str, float], max_loss: float) -> str:
        """Return how far the loss is above its limit, with its terms and the largest gradient."""
        terms = ", ".join(f"{name} {mean:.3g}" for name, mean in means.items() if name != "loss")
        norms = [norm.item() for _, _, norm in self._window if norm is not None]
        size = (
            f"largest gradient norm {max(norms):.3g}"
            if norms
            else "gradient norm unknown, as gradients are not clipped"
        )
        first, last = self._window[0][0] + 1, self._window[-1][0] + 1
        return (
            f"training exploded in updates {first} to {last}: the mean loss {means['loss']:.3g} is above the limit of "
            f"{max_loss:g} ({terms}; {size}); {_ADVICE}, or raise --max-loss; nothing of this stage is kept as done"
        )

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of updates at the logged points."""
        return tuple(int(step) for step in self.columns.get(STEP, []))

    @property
    def losses(self) -> dict[str, tuple[float, ...]]:
        """The logged means by name of the term."""
        return {name: tuple(values) for name, values in self.columns.items() if name != STEP}
