"""What a verification found: its checks, its verdict, and both as a table and as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from ctbench.errors import one_line
from ctbench.reporting.tables import Cell, Table
from ctbench.results.schema import Result

Word = Literal["equal", "within noise", "differs"]
COLUMNS: Final = ("node", "of", "stored", "computed", "difference", "allowed", "verdict")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number of a result beside the same number, computed again.

    Args:
        node: title of the node; `of`: what was measured, a metric or a domain's loss.
        stored: the number in the result; `computed`: the same, computed again (None: undefined).
        allowed: largest absolute difference that agrees; `reason`: why.
    """

    node: str
    of: str
    stored: float | None
    computed: float | None
    allowed: float
    reason: str

    @property
    def difference(self) -> float | None:
        """The number computed again minus the one in the result."""
        return None if self.stored is None or self.computed is None else self.computed - self.stored

    @property
    def verdict(self) -> Word:
        """Whether the two numbers agree."""
        if self.stored == self.computed:
            return "equal"
        return "within noise" if self.difference is not None and abs(self.difference) <= self.allowed else "differs"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a verification found.

    Args:
        result: what was verified.
        seed: which nodes were drawn.
        wrong: lines on what the result says of itself and what is otherwise here; then nothing was computed.
        checks: numbers that were computed again.
        remarks: what a reader should know about both machines.

    Both quote a file from elsewhere, which may hold line breaks, and with them a verdict: each is made one printable line.
    """

    result: Result
    seed: int
    wrong: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("wrong", "remarks"):
            object.__setattr__(self, name, tuple(map(one_line, getattr(self, name))))

    @property
    def agrees(self) -> bool:
        """Whether everything agrees."""
        return not self.wrong and all(check.verdict != "differs" for check in self.checks)

    def verdict(self) -> str:
        """Return one line: whether the result agrees, and how far."""
        return one_line(
            self._verdict(f"{self.result.method.name} on {self.result.stream.name}, seed {self.result.seed}")
        )

    def _verdict(self, name: str) -> str:
        if self.wrong:
            return f"does not agree: {name} says of itself what is not so here; nothing was computed"
        bad = [check for check in self.checks if check.verdict == "differs"]
        if bad:
            worst = max(bad, key=lambda check: abs(check.difference or 0.0) / max(check.allowed, 1e-300))
            return (
                f"does not agree: {len(bad)} of {len(self.checks)} numbers of {name} differ, first of all "
                f"{worst.of} of {worst.node}"
            )
        equal = sum(check.verdict == "equal" for check in self.checks)
        how = "bit for bit" if equal == len(self.checks) else f"{equal} bit for bit, the others within the noise"
        return f"agrees: {len(self.checks)} numbers of {name}, {how}"

    def table(self) -> Table:
        """Return one row for each number, with a note for each kind of tolerance."""
        rows = [
            (
                check.node,
                check.of,
                _number(check.stored),
                _number(check.computed),
                _number(check.difference, signed=True),
                f"{check.allowed:.2g}",
                check.verdict,
            )
            for check in self.checks
        ]
        reasons = dict.fromkeys(check.reason for check in self.checks)
        return Table(
            title=f"Nodes computed again (draw {self.seed})",
            columns=COLUMNS,
            rows=tuple(tuple(Cell(text=text) for text in row) for row in rows),
            left=("node", "of", "verdict"),
            num_keys=2,
            notes=tuple(f"allowed: {reason}" for reason in reasons),
        )

    def record(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "key": self.result.key,
            "agrees": self.agrees,
            "verdict": self.verdict(),
            "seed": self.seed,
            "wrong": list(self.wrong),
            "remarks": list(self.remarks),
            "checks": [
                {
                    "node": check.node,
                    "of": check.of,
                    "stored": check.stored,
                    "computed": check.computed,
                    "difference": check.difference,
                    "allowed": check.allowed,
                    "reason": check.reason,
                    "verdict": check.verdict,
                }
                for check in self.checks
            ],
        }


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''}.6g}"
