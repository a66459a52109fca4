"""Everything that is wrong with a call of several runs, said at once and before anything is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ctbench.errors import CTBenchError, Refused, RunFailed


class Refusals:
    """Collects why parts of a call are refused.

    Args:
        count: number of parts.

    Examples:
        >>> from ctbench.errors import BadConfig
        >>> refusals = Refusals(2)
        >>> with refusals.collecting(["ewc on domain"]):
        ...     raise BadConfig("pretrain.lr: must be positive")
        >>> refusals.end()
        Traceback (most recent call last):
            ...
        ctbench.errors.Refused: 1 of 2 jobs are refused, nothing was computed:
          ewc on domain: pretrain.lr: must be positive
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: CTBenchError | None = None
        self._names: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def collecting(self, names: Sequence[str]) -> Iterator[None]:
        """Keep what is refused in the block, under the names of the parts that it is for."""
        try:
            yield
        except RunFailed:
            raise
        except CTBenchError as error:
            self.add(names, error)

    def add(self, names: Sequence[str], error: CTBenchError) -> None:
        """Keep a reason under the names of the parts that it is for."""
        self._first = self._first or error
        self._names.setdefault(str(error), []).extend(names)

    def add_one(self, name: str, error: CTBenchError) -> None:
        """Keep a reason under the name of one part."""
        self.add([name], error)

    def end(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            CTBenchError: the only mistake as it is, if it is one of all parts; else `Refused` with a line for each.
        """
        if self._first is None:
            return
        refused = len({name for names in self._names.values() for name in names})
        if len(self._names) == 1 and refused >= self._count:
            raise self._first
        reasons = [f"{', '.join(dict.fromkeys(names))}: {message}" for message, names in self._names.items()]
        raise Refused(f"{refused} of {self._count} jobs are refused, nothing was computed:", reasons)
