"""A plan: which stages a method trains, from which parent, and which LM every cell of the matrix fine-tunes.

Stages are numbered from 1; `BASE` (0) is the untouched LM. Because cells name their source, methods that keep one LM
per domain or train on everything at once need no special case anywhere, and equal cells are computed once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ctbench.errors import BadPlugin

BASE: Final = 0
"""The number of the untouched LM, the parent of a first stage and the source of row 0."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Three tuples that say everything about the graph of a run over T domains.

    Args:
        stages: the domains that stage k + 1 trains on. A stage on n domains gets n times the recipe's tokens.
        parents: the number of the stage that stage k + 1 starts from, or `BASE`.
        cells: (T + 1) rows of T numbers: `cells[i][j]` is the stage whose LM is fine-tuned on task j in row i,
            `BASE`, or None where the cell does not exist.

    Raises:
        BadPlugin: a parent that does not come before its stage, a source that does not exist, a ragged table.
    """

    stages: tuple[tuple[str, ...], ...]
    parents: tuple[int, ...]
    cells: tuple[tuple[int | None, ...], ...]

    def __post_init__(self) -> None:
        if len(self.parents) != len(self.stages):
            raise BadPlugin(
                f"a plan of {len(self.stages)} stages names {len(self.parents)} parents; one each is wanted"
            )
        for number, parent in enumerate(self.parents, start=1):
            if not BASE <= parent < number:
                raise BadPlugin(f"stage {number} starts from {parent}; allowed: BASE (0) or an earlier stage")
        if len({len(row) for row in self.cells}) > 1:
            raise BadPlugin("the rows of a plan's cells differ in length; each needs one entry per domain")
        known = {None, *range(len(self.stages) + 1)}
        strange = {source for row in self.cells for source in row} - known
        if strange:
            raise BadPlugin(f"cells name the stages {sorted(map(str, strange))}, which the plan does not have")
        if not self.cells or any(source != BASE for source in self.cells[0]):
            raise BadPlugin("row 0 is the untouched LM: every cell of it must name BASE")

    def fitting(self, names: Sequence[str]) -> Plan:
        """Return the plan itself if it fits a stream of these domains.

        Raises:
            BadPlugin: another number of rows or columns, or a stage on a domain that the stream does not have.
        """
        shape = (len(self.cells), len(self.cells[0]))
        if shape != (len(names) + 1, len(names)):
            raise BadPlugin(
                f"a plan's cells have {shape[0]} rows of {shape[1]}; {len(names)} domains need {len(names) + 1} "
                f"rows of {len(names)}: the base, and the state after each stage"
            )
        strange = sorted({name for stage in self.stages for name in stage} - set(names))
        if strange or not all(self.stages):
            raise BadPlugin(f"a plan's stage trains on {strange or 'nothing'}; known: {', '.join(names)}")
        return self

    @property
    def kept(self) -> frozenset[int]:
        """The stages whose LMs the last row needs; what a later stage went on from lives in that stage's LM."""
        return frozenset(source for source in self.cells[-1] if source) - set(self.parents)


def sequential(names: Sequence[str]) -> Plan:
    """Return the plan of every method that trains one LM through the stream.

    Args:
        names: the T domains in stream order.

    Examples:
        >>> sequential(["a", "b"]).cells
        ((0, 0), (1, 1), (2, 2))
    """
    count = len(names)
    return Plan(
        stages=tuple((name,) for name in names),
        parents=tuple(range(count)),
        cells=tuple((row,) * count for row in range(count + 1)),
    )


def one_per_domain(names: Sequence[str], *, goes_on: bool = False) -> Plan:
    """Return the plan of a method whose cells use what was trained for their own domain, and before that the base.

    What serves a domain is final after the domain's stage, so later rows name the same stage and cost nothing.

    Args:
        names: the T domains in stream order.
        goes_on: every stage starts from the one before, which it must leave as it was, and not from the base.

    Examples:
        >>> one_per_domain(["a", "b"]).cells
        ((0, 0), (1, 0), (1, 2))
    """
    count = len(names)
    return Plan(
        stages=tuple((name,) for name in names),
        parents=tuple(range(count)) if goes_on else (BASE,) * count,
        cells=tuple(
            tuple(stage if stage <= row else BASE for stage in range(1, count + 1)) for row in range(count + 1)
        ),
    )


# Methods written for ctbench 0.1 import from `ctbench.plan`. An alias, since a module of that name would hide the
# function `ctbench.plan`.
sys.modules.setdefault("ctbench.plan", sys.modules[__name__])
