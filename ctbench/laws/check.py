"""Check a method by all laws; `ctbench check` and the test suite call this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ctbench.errors import BadConfig, CTBenchError
from ctbench.laws.components import inert_in
from ctbench.laws.dry_run import DryRun, DryRunFailed, NotPlain
from ctbench.laws.rules import LAWS, Law, resume, sentence
from ctbench.laws.world import TinyWorld, tiny_world
from ctbench.method import Method, configure

WORLDS: Final[Mapping[Literal["mlm", "clm"], str]] = {"mlm": "a tiny encoder", "clm": "a tiny decoder"}
RUNS: Final = "runs"
"""The verdict that precedes the laws: whether the method runs at all."""
_SAYS: Final[Mapping[str, str]] = {
    RUNS: "its stages and cells run",
    **{name: sentence(law) for name, law in LAWS.items()},
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one law.

    Attributes:
        law: its name.
        holds: None if the law could not be judged because of another failure.
        line: the statement of the law, or how the method breaks it.
        notes: components of the method that do nothing, which no law forbids.
    """

    law: str
    holds: bool | None
    line: str
    notes: tuple[str, ...] = ()


def check_method(
    cls: type[Method], *, name: str = "", settings: Mapping[str, Any] | None = None
) -> tuple[Verdict, ...]:
    """Run a method on a tiny encoder and on a tiny decoder and judge it by all laws.

    A method that rejects one of the two with a BadConfig is judged on the other.

    Args:
        cls: the method's class.
        name: public name of the method, for messages.
        settings: hyper-parameters; the others keep their defaults.

    Returns:
        A verdict on whether the method runs, then one verdict per law.

    Raises:
        CTBenchError: a setting that the method does not have, or a value out of range.
    """
    found: list[tuple[str, dict[str, Verdict]]] = []
    for objective, called in WORLDS.items():
        with tiny_world(objective) as world:
            found.append((called, {verdict.law: verdict for verdict in judge(cls, world, name, settings)}))
    return tuple(_together(law, [(called, verdicts[law]) for called, verdicts in found]) for law in (RUNS, *LAWS))


def judge(
    cls: type[Method], world: TinyWorld, name: str = "", settings: Mapping[str, Any] | None = None
) -> list[Verdict]:
    """Judge a method in one tiny world: whether it runs, then every law.

    Raises:
        CTBenchError: a setting that the method does not have, or a value out of range.
    """
    configure(cls, name or cls.__name__.lower(), settings or {})
    try:
        dry_run = DryRun(cls, world, name=name, settings=settings)
        _run(dry_run)
    except NotPlain as error:
        verdicts = {law: Verdict(law=law, holds=None, line="not judged, the memory cannot be stored") for law in LAWS}
        verdicts["plain memory"] = Verdict(law="plain memory", holds=False, line=str(error))
        return [Verdict(law=RUNS, holds=True, line=_SAYS[RUNS]), *verdicts.values()]
    except (CTBenchError, DryRunFailed) as error:
        refused = isinstance(error, BadConfig)
        stop = Verdict(law=RUNS, holds=None if refused else False, line=f"{'refused: ' if refused else ''}{error}")
        return [stop, *(Verdict(law=law, holds=None, line="not judged, the method does not run") for law in LAWS)]
    broken = {law: _apply(function, dry_run) for law, function in LAWS.items() if law != "resume"}
    verdicts = {law: Verdict(law=law, holds=line is None, line=line or _SAYS[law]) for law, line in broken.items()}
    if broken["determinism"]:
        verdicts["resume"] = Verdict(law="resume", holds=None, line="not judged, two equal runs differ already")
    else:
        line = _apply(resume, dry_run)
        verdicts["resume"] = Verdict(law="resume", holds=line is None, line=line or _SAYS["resume"])
    runs = Verdict(law=RUNS, holds=True, line=_SAYS[RUNS], notes=inert_in(dry_run))
    return [runs, *(verdicts[law] for law in LAWS)]


def _apply(law: Law, dry_run: DryRun) -> str | None:
    try:
        return law(dry_run)
    except (CTBenchError, DryRunFailed) as error:
        return f"{error}"


def _run(dry_run: DryRun) -> None:
    """Run all stages and one cell of the last row per domain."""
    _ = dry_run.first
    for source, task in zip(dry_run.plan.cells[-1], dry_run.world.stream.names, strict=True):
        if source:
            dry_run.features(dry_run.adapted(source, task))


def _together(law: str, verdicts: list[tuple[str, Verdict]]) -> Verdict:
    notes = tuple(f"on {called}, {note}" for called, verdict in verdicts for note in verdict.notes)
    broken = [f"on {called}: {verdict.line}" for called, verdict in verdicts if verdict.holds is False]
    unjudged = [f"on {called}: {verdict.line}" for called, verdict in verdicts if verdict.holds is None]
    if broken:
        same = len(broken) == len(verdicts) and len({verdict.line for _, verdict in verdicts}) == 1
        return Verdict(law=law, holds=False, line=verdicts[0][1].line if same else broken[0])
    if len(unjudged) == len(verdicts):
        return Verdict(law=law, holds=False if law == RUNS else None, line=verdicts[0][1].line)
    line = _SAYS[law] if not unjudged else f"{_SAYS[law]} ({unjudged[0]})"
    return Verdict(law=law, holds=True, line=line, notes=notes)
