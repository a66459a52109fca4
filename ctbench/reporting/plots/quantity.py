"""The matrix that a picture shows: scores in percent, or held-out LM losses in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ctbench.errors import UnknownName
from ctbench.reporting import numbers
from ctbench.results.matrix import Array
from ctbench.results.schema import Result


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One of the two matrices of a result.

    Args:
        on: "score" or "loss".
        name: what its numbers are called; `unit`: their unit; `difference`: the unit of differences.
        scale: factor from the numbers of a result to those of a picture.
        step: least range of an axis, so that a tiny difference does not look large.
    """

    on: str
    name: str
    unit: str
    difference: str
    scale: float
    step: float

    @property
    def is_loss(self) -> bool:
        """Whether lower is better."""
        return self.on == "loss"

    def matrix(self, result: Result) -> Array:
        """Return the matrix [T+1, T] of a result in the unit of the picture."""
        found: Array = self.scale * (result.lm_loss if self.is_loss else result.matrix)
        return found

    def metrics(self, result: Result) -> dict[str, float | None]:
        """Return the metrics of a result on this matrix, in the unit of the result."""
        return result.loss_metrics if self.is_loss else result.computed_metrics

    def text(self, value: float, *, signed: bool = False) -> str:
        """Return a number of the picture as text."""
        return numbers.amount(value / self.scale, is_loss=self.is_loss, signed=signed)


_ALL: Final = {
    "score": Quantity(on="score", name="score", unit="%", difference="points", scale=100.0, step=2.0),
    "loss": Quantity(on="loss", name="held-out LM loss", unit="nats", difference="nats", scale=1.0, step=0.05),
}

SCORES: Final = _ALL["score"]


def get_quantity(on: str) -> Quantity:
    """Return the matrix called `on`.

    Raises:
        UnknownName: neither "score" nor "loss".
    """
    if on not in _ALL:
        raise UnknownName("matrix", on, _ALL)
    return _ALL[on]
