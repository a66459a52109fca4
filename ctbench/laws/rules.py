"""The laws that every method keeps, tried in a tiny world; `ctbench check` and the test suite run them.

A law is a function from a trial to None, or to one line that says how it is broken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ctbench.backbone import Backbone
from ctbench.data.stream import Stream
from ctbench.errors import BadConfig, CTBenchError
from ctbench.laws.trial import NotPlain, Trial, TrialFailed, difference, tree_difference
from ctbench.laws.world import World, tiny_world
from ctbench.memory import flatten
from ctbench.method import Method, configure

if TYPE_CHECKING:
    import numpy.typing as npt

Law = Callable[[Trial], str | None]
WORLDS: Final[Mapping[Literal["mlm", "clm"], str]] = {"mlm": "a tiny encoder", "clm": "a tiny decoder"}
RUNS: Final = "runs"
"""Not a law but what has to be so before there is anything to judge."""
WINDOW: Final = 6
"""So many tokens in a row that were also in a domain's text are text."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found about one law.

    Attributes:
        law: its name.
        holds: None where it could not be judged, because something else is wrong.
        line: what the law says, or how it is broken.
    """

    law: str
    holds: bool | None
    line: str


def check_method(
    cls: type[Method], *, name: str = "", settings: Mapping[str, Any] | None = None
) -> tuple[Verdict, ...]:
    """Try a method on a tiny encoder and a tiny decoder and judge it by all laws.

    A method that refuses one of the two with a message of its own is judged on the other.

    Args:
        cls: the method's class.
        name: its public name, for messages.
        settings: hyper-parameters; the others keep their defaults.

    Returns:
        First whether it runs, then one verdict per law.

    Raises:
        CTBenchError: settings that the method does not take.
    """
    found: list[tuple[str, dict[str, Verdict]]] = []
    for objective, called in WORLDS.items():
        with tiny_world(objective) as world:
            found.append((called, {verdict.law: verdict for verdict in judge(cls, world, name, settings)}))
    return tuple(_together(law, [(called, verdicts[law]) for called, verdicts in found]) for law in (RUNS, *LAWS))


def judge(cls: type[Method], world: World, name: str = "", settings: Mapping[str, Any] | None = None) -> list[Verdict]:
    """Judge a method in one world: first whether it runs, then every law.

    Raises:
        CTBenchError: settings that the method does not take.
    """
    configure(cls, name or cls.__name__.lower(), settings or {})
    try:
        trial = Trial(cls, world, name=name, settings=settings)
        _run(trial)
    except NotPlain as error:
        verdicts = {law: Verdict(law=law, holds=None, line="not judged, the memory is not plain") for law in LAWS}
        verdicts["plain memory"] = Verdict(law="plain memory", holds=False, line=str(error))
        return [Verdict(law=RUNS, holds=True, line=_SAYS[RUNS]), *verdicts.values()]
    except (CTBenchError, TrialFailed) as error:
        refused = isinstance(error, BadConfig)
        stop = Verdict(law=RUNS, holds=None if refused else False, line=f"{'refused: ' if refused else ''}{error}")
        return [stop, *(Verdict(law=law, holds=None, line="not judged, it does not run") for law in LAWS)]
    broken = {law: _apply(function, trial) for law, function in LAWS.items() if law != "resume"}
    verdicts = {law: Verdict(law=law, holds=line is None, line=line or _SAYS[law]) for law, line in broken.items()}
    if broken["determinism"]:
        verdicts["resume"] = Verdict(law="resume", holds=None, line="not judged, two equal runs differ already")
    else:
        line = _apply(resume, trial)
        verdicts["resume"] = Verdict(law="resume", holds=line is None, line=line or _SAYS["resume"])
    return [Verdict(law=RUNS, holds=True, line=_SAYS[RUNS]), *(verdicts[law] for law in LAWS)]


def _apply(law: Law, trial: Trial) -> str | None:
    try:
        return law(trial)
    except (CTBenchError, TrialFailed) as error:
        return f"{error}"


def _run(trial: Trial) -> None:
    """Run all stages and one cell of the last row per domain."""
    for number, done in enumerate(trial.first, start=1):
        for name, values in done.losses.items():
            if not all(map(math.isfinite, values)):
                raise TrialFailed(f"stage {number}: the loss term '{name}' is not finite")
    for source, task in zip(trial.plan.cells[-1], trial.world.stream.names, strict=True):
        if source:
            trial.features(trial.adapted(source, task))


def _together(law: str, verdicts: list[tuple[str, Verdict]]) -> Verdict:
    broken = [f"on {called}: {verdict.line}" for called, verdict in verdicts if verdict.holds is False]
    unjudged = [f"on {called}: {verdict.line}" for called, verdict in verdicts if verdict.holds is None]
    if broken:
        same = len(broken) == len(verdicts) and len({verdict.line for _, verdict in verdicts}) == 1
        return Verdict(law=law, holds=False, line=verdicts[0][1].line if same else broken[0])
    if len(unjudged) == len(verdicts):
        return Verdict(law=law, holds=False if law == RUNS else None, line=verdicts[0][1].line)
    line = _SAYS[law] if not unjudged else f"{_SAYS[law]} ({unjudged[0]})"
    return Verdict(law=law, holds=True, line=line)


def resume(trial: Trial) -> str | None:
    """A stage that goes on from a checkpoint ends as if it had not been interrupted, bit for bit."""
    whole = trial.first[-1]
    advice = "what must outlive a step belongs into stage.memory, what is trained into stage.backbone"
    try:
        resumed = trial.resumed
    except (CTBenchError, TrialFailed) as error:
        return f"a stage cannot be resumed in the middle: {error}; {advice}"
    if name := difference(whole.state, resumed.state):
        return f"a stage resumed in the middle ends with another '{name}'; {advice}"
    if name := tree_difference(whole.memory, resumed.memory):
        return f"a stage resumed in the middle ends with another {name}; {advice}"
    return None if whole.losses == resumed.losses else f"a stage resumed in the middle logs other losses; {advice}"


def determinism(trial: Trial) -> str | None:
    """Two equal runs give the same bits."""
    advice = "draw from stage.generator(purpose) or stage.normal, and keep nothing in the module"
    for number, (one, other) in enumerate(zip(trial.first, trial.second, strict=True), start=1):
        if name := difference(one.start, other.start):
            return f"build gives another '{name}' the second time; draw from torch's global generator, it is seeded"
        if name := difference(one.state, other.state):
            return f"stage {number} gives another '{name}' the second time; {advice}"
        if name := tree_difference(one.memory, other.memory):
            return f"stage {number} gives another {name} the second time; {advice}"
        if one.losses != other.losses:
            return f"stage {number} logs other losses the second time; {advice}"
    return None


def budget(trial: Trial) -> str | None:
    """A stage makes exactly the recipe's updates, and nothing else trains."""
    for number, done in enumerate(trial.first, start=1):
        if done.num_updates != done.num_wanted:
            return f"stage {number} makes {done.num_updates} updates, the recipe has {done.num_wanted}"
        for hook, name in done.moved:
            return f"{hook} changes '{name}' in stage {number}; only after_step and end may edit weights"
    return None


def frozen(trial: Trial) -> str | None:
    """Weights that do not require a gradient stay as they are, bit for bit."""
    names = [name for name, _ in trial.build().named_parameters()]
    for number, done in enumerate(trial.first, start=1):
        for name in names:
            stored = name.replace(".base_layer.", ".")  # peft's name of what a saved state calls by its own
            if name in done.trained or stored not in done.start:
                continue
            if difference({stored: done.start[stored]}, {stored: done.state[stored]}):
                return f"stage {number} changes '{stored}', which requires no gradient"
    return None


def honesty(trial: Trial) -> str | None:
    """A cell's LM does not depend on the name of the task or the stage, unless the method needs the domain."""
    if trial.method().configured_traits.needs_domain:
        return None
    advice = "say so with traits = Traits(needs_domain=True)"
    for row, sources in enumerate(trial.plan.cells):
        if len(set(sources)) > 1:
            return f"the cells of row {row} fine-tune different LMs, so the domain of a task must be known; {advice}"
    number, names = len(trial.plan.stages), trial.world.stream.names
    shown = trial.adapted(number, names[0])
    for task, told in ((names[-1], number), (names[0], 1)):
        other = trial.adapted(number, task, told=told)
        what = f"adapt gives another LM when it is told task '{task}' and stage {told}"
        if name := difference(shown.state(), other.state()):
            return f"{what}: '{name}' differs; {advice}"
        if {name for name, _ in shown.trainable()} != {name for name, _ in other.trainable()}:
            return f"{what}: other weights train; {advice}"
        if difference({"features": trial.features(shown)}, {"features": trial.features(other)}):
            return f"{what}: what a classifier reads differs; {advice}"
    return None


def size(trial: Trial) -> str | None:
    """The parameters that are reported are those that there are, and they grow with the domains only if it says so."""
    base, stream = trial.world.base, trial.world.stream
    built = trial.build()
    reported, found = _reported(built, base), _found(built, base)
    if reported != found:
        return f"{reported} added parameters are reported, {found} are in the LM and not in the untouched one"
    for number, done in enumerate(trial.first, start=1):
        if done.start.keys() != done.state.keys() or any(
            done.start[name].shape != done.state[name].shape for name in done.start
        ):
            return f"stage {number} ends with other weights than it began with; make room for them in build"
    if trial.method().configured_traits.grows:
        return None
    shorter = dataclasses.replace(stream, domains=stream.domains[:1])
    counts = [_total(trial, each) for each in (shorter, stream)]
    if counts[0] != counts[1]:
        return (
            f"one domain adds {counts[0]} parameters and two add {counts[1]}; say so with traits = Traits(grows=True)"
        )
    return None


def text(trial: Trial) -> str | None:
    """Text of a stage is kept, or read again in a later one, only by a method that says so."""
    if trial.method().configured_traits.stores_text:
        return None
    advice = "say so with traits = Traits(stores_text=True)"
    for number, domains in enumerate(trial.plan.stages, start=1):
        if len(domains) > 1:
            return f"stage {number} trains on the text of {len(domains)} domains; {advice}"
    read = {window for blocks in trial.world.blocks.values() for window in _windows(blocks[np.arange(len(blocks))])}
    for number, done in enumerate(trial.first, start=1):
        for name, tensor in {**flatten(done.memory)[1], **done.state}.items():
            is_text = not tensor.is_floating_point() and not tensor.is_complex() and tensor.ndim > 0
            if is_text and not read.isdisjoint(_windows(tensor.cpu().numpy())):
                return f"'{name}' holds text after stage {number}; {advice}"
    return None


def _windows(rows: npt.NDArray[np.generic]) -> Iterator[tuple[int, ...]]:
    """Yield every run of `WINDOW` numbers inside a row."""
    if rows.shape[-1] >= WINDOW:
        runs = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=-1)
        yield from map(tuple, runs.reshape(-1, WINDOW).tolist())


def plain_memory(trial: Trial) -> str | None:
    """What a stage leaves in its memory comes back from the store as it was; nothing is pickled."""
    for number, done in enumerate(trial.first, start=1):
        if problem := _changed(done.memory, done.loaded, "memory"):
            return f"after stage {number}, {problem}"
    return None


def _changed(kept: Any, loaded: Any, path: str) -> str | None:
    if type(kept) is not type(loaded):
        return f"{path} is a {type(kept).__name__} and comes back from the store as a {type(loaded).__name__}"
    if isinstance(kept, dict):
        pairs = [(f"{path}/{key}", value, loaded[key]) for key, value in kept.items()]
    elif isinstance(kept, list):
        pairs = [(f"{path}/{index}", *both) for index, both in enumerate(zip(kept, loaded, strict=True))]
    else:
        return (
            f"{path} comes back from the store with another value"
            if tree_difference({"": kept}, {"": loaded})
            else None
        )
    return next((problem for name, one, other in pairs if (problem := _changed(one, other, name))), None)


def _reported(built: Backbone, base: Backbone) -> int:
    """Return the number of added parameters as results report it."""
    return sum(each.numel() for each in built.parameters()) - sum(each.numel() for each in base.parameters())


def _found(built: Backbone, base: Backbone) -> int:
    """Return the size of the parameters in a saved state that the untouched LM does not have."""
    sizes = {id(each): each.numel() for each in built.parameters()}
    untouched = base.state_dict(keep_vars=True)
    total = 0
    for name, tensor in built.state_dict(keep_vars=True).items():
        if name not in untouched or untouched[name].shape != tensor.shape:
            total += sizes.pop(id(tensor), 0)
    return total


def _total(trial: Trial, stream: Stream) -> int:
    """Return the number of parameters of all LMs that the last row needs, beside the first one's own."""
    built, plan = trial.build(stream), trial.plan_of(stream)
    trained = sum(each.numel() for _, each in built.trainable())
    return _reported(built, trial.world.base) + max(0, len(plan.kept) - 1) * trained


def sentence(law: Law) -> str:
    """Return what a law says, the first sentence of its docstring."""
    return (law.__doc__ or "").partition("\n")[0].rstrip(".")


LAWS: Final[Mapping[str, Law]] = {
    "resume": resume,
    "determinism": determinism,
    "budget": budget,
    "frozen": frozen,
    "honesty": honesty,
    "size": size,
    "text": text,
    "plain memory": plain_memory,
}
_SAYS: Final[Mapping[str, str]] = {
    RUNS: "its stages and cells run",
    **{name: sentence(law) for name, law in LAWS.items()},
}
