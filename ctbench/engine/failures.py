"""What goes wrong with a node: it is named, what needs it is not computed, and everything else goes on."""

from __future__ import annotations

import errno
import re
import signal
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ctbench.engine.identity import CellIdentity, LossIdentity, StageIdentity
from ctbench.engine.node import Node
from ctbench.errors import BadConfig, CTBenchError, OutOfMemory, RunFailed, code_place, first_line, one_line

MAX_REASON: Final = 500
"""Longest reason, in characters."""
_DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_QUOTED_PATH: Final = re.compile(r"(['\"])/(?:[^/'\"]+/)*([^/'\"]*)\1")
_PATH: Final = re.compile(r"(?<![\w.:/-])/(?:[^\s/'\":,;()]+/)+([^\s/'\":,;()]*)")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a node could not be computed.

    Args:
        kind: "node": it fails, and the others go on; "memory" and "killed": likewise, after one more try; "lost": likewise,
            after a few more; "call": every node would be refused; "disk": the store cannot be written, so no node could be
            kept.
        reason: one line.
        trace: traceback of an exception that is none of ctbench's own.
    """

    kind: Literal["node", "memory", "killed", "lost", "call", "disk"] = "node"
    reason: str
    trace: str = ""

    @property
    def is_retried(self) -> bool:
        """Whether another try, alone on the machine, may succeed."""
        return self.kind in ("memory", "killed")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A node that failed.

    Args:
        node: the node.
        reason: one line.
        trace: traceback of an exception that is none of ctbench's own.
        dependents: nodes that need it and were not computed.
    """

    node: Node
    reason: str
    trace: str = ""
    dependents: tuple[Node, ...] = ()

    def __str__(self) -> str:
        return f"{whose(self.node)}{self.node.title}: {self.reason}"


class NodesFailed(RunFailed):
    """Nodes failed; everything that does not need them was computed.

    Args:
        failures: the nodes.
        results: what was written all the same, incomplete results included: of `run` results, of `tune` tunings.
        went_on: whether the other nodes were computed; False under `fail_fast`.
    """

    def __init__(self, failures: Sequence[Failure], results: Sequence[Any] = (), *, went_on: bool = True) -> None:
        self.failures = tuple(failures)
        self.results: tuple[Any, ...] = tuple(results)
        count = len(self.failures)
        lost = len({node.key for failure in failures for node in failure.dependents})
        more = (
            f", {lost} that need{'s' * (lost == 1)} {'it' if count == 1 else 'them'} {_were(lost)} not computed"
            if lost
            else ""
        )
        rest = "everything else was computed" if went_on else "stopped at the first failure"
        headline = f"{count} node{'s' * (count > 1)} failed{more}; {rest}; run the same command to resume"
        super().__init__("\n".join([headline, *(f"failed: {failure}" for failure in self.failures)]))
        for failure in self.failures:
            if failure.trace:
                self.add_note(f"{failure.node.title}:\n{failure.trace}")


def problem_of(error: BaseException) -> Problem:
    """Return what an exception in a node means.

    Examples:
        >>> problem_of(KeyError("lr")).reason
        "KeyError: 'lr'"
    """
    cause = error.__cause__
    if isinstance(error, BadConfig):
        return Problem(kind="call", reason=str(error))
    if isinstance(error, OutOfMemory):
        return Problem(kind="memory", reason=str(error))
    if isinstance(error, RunFailed) and isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
        return Problem(kind="disk", reason=str(error))
    if isinstance(error, CTBenchError):
        return Problem(reason=_shorten(str(error)))
    what = first_line(error)
    name = type(error).__name__
    reason = _shorten(what if what == name else f"{name}: {what}") + code_place(error)
    return Problem(reason=reason, trace="".join(traceback.format_exception(error)).rstrip())


def problem_of_death(code: int) -> Problem:
    """Return what the end of a worker process means.

    Args:
        code: its exit status, negative for the signal that killed it.

    Examples:
        >>> problem_of_death(-9).reason
        'its worker was killed by signal 9 (SIGKILL), probably by the system because memory ran out'
    """
    if code >= 0:
        return Problem(reason=f"its worker ended with exit code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    why = ", probably by the system because memory ran out" if -code == signal.SIGKILL else ""
    return Problem(kind="killed", reason=f"its worker was killed by signal {-code} ({name}){why}")


def refusal(node: Node, problem: Problem) -> CTBenchError | None:
    """Return the error that ends the whole call, if a problem is of such a kind."""
    if problem.kind == "call":
        return BadConfig(problem.reason)
    if problem.kind == "disk":
        return RunFailed(f"{node.title} failed: {problem.reason}; run the same command to resume")
    return None


def whose(node: Node) -> str:
    """Return "method on stream, seed N: " for a node of a method, and "" for one whose title says so or that all share."""
    identity = node.identity
    if node.label:
        return ""
    if isinstance(identity, StageIdentity):
        method, seed = identity.method.name, identity.seed
    elif isinstance(identity, LossIdentity | CellIdentity) and identity.lm.method is not None:
        method, seed = identity.lm.method.name, identity.lm.build_seed or 0
    else:
        return ""
    place = Path(node.lookup.stream)
    name = place.stem if place.suffix else place.name
    return f"{method or 'control'} on {name}, seed {seed}: " if method else f"control on {name}: "


def failure_records(failures: Iterable[Failure], nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Return the failures that concern the nodes of a run, as they stand in its result: without paths."""
    mine = {node.key for node in nodes}
    found = []
    for failure in failures:
        lost = [node for node in failure.dependents if node.key in mine]
        if failure.node.key in mine or lost:
            found.append(
                {
                    "node": failure.node.own_title,
                    "key": failure.node.key,
                    "reason": without_paths(failure.reason),
                    "num_dependents": len(lost),
                }
            )
    return found


def lost_keys(failures: Iterable[Failure]) -> frozenset[str]:
    """Return the keys of all nodes that the store lacks because of failures."""
    return frozenset(node.key for failure in failures for node in (failure.node, *failure.dependents))


def without_paths(text: str) -> str:
    """Return a text with every absolute path cut to its last part.

    Examples:
        >>> without_paths("cannot read '/home/me/data/x.json' or a/b")
        "cannot read 'x.json' or a/b"
    """
    return _PATH.sub(r"\1", _QUOTED_PATH.sub(r"\1\2\1", text))


def _shorten(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}..."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
