"""The laws that every method must keep; `ctbench.laws.check` applies them.

A law is a function of a dry run that returns None, or one line that says how the method breaks the law.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ctbench.backbone import Backbone
from ctbench.data.stream import Stream
from ctbench.errors import CTBenchError
from ctbench.laws.difference import difference, tree_difference
from ctbench.laws.dry_run import DryRun, DryRunFailed
from ctbench.memory import flatten

if TYPE_CHECKING:
    import numpy.typing as npt

Law = Callable[[DryRun], str | None]
WINDOW: Final = 6
"""This many consecutive tokens that also occur in a domain's text count as stored text."""


def resume(dry_run: DryRun) -> str | None:
    """A stage resumed from a checkpoint ends with the same bits as an uninterrupted one."""
    whole = dry_run.first[-1]
    advice = "keep state that outlives a step in stage.memory, and trained weights in stage.backbone"
    try:
        resumed = dry_run.resumed
    except (CTBenchError, DryRunFailed) as error:
        return f"a stage cannot be resumed from a mid-stage checkpoint: {error}; {advice}"
    if name := difference(whole.state, resumed.state):
        return f"a resumed stage ends with another '{name}'; {advice}"
    if name := tree_difference(whole.memory, resumed.memory):
        return f"a resumed stage ends with another {name}; {advice}"
    return None if whole.losses == resumed.losses else f"a resumed stage logs other losses; {advice}"


def determinism(dry_run: DryRun) -> str | None:
    """Two equal runs give the same bits."""
    advice = "draw random numbers from stage.generator(purpose) or stage.normal, and keep no state in the module"
    for number, (one, other) in enumerate(zip(dry_run.first, dry_run.second, strict=True), start=1):
        if name := difference(one.start, other.start):
            return f"build gives another '{name}' the second time; draw from torch's global generator, which is seeded"
        if name := difference(one.state, other.state):
            return f"stage {number} gives another '{name}' the second time; {advice}"
        if name := tree_difference(one.memory, other.memory):
            return f"stage {number} gives another {name} the second time; {advice}"
        if one.losses != other.losses:
            return f"stage {number} logs other losses the second time; {advice}"
    return None


def budget(dry_run: DryRun) -> str | None:
    """A stage makes exactly as many updates as its recipe says, and no other code changes weights."""
    for number, done in enumerate(dry_run.first, start=1):
        if done.num_updates != done.num_wanted:
            return f"stage {number} makes {done.num_updates} updates, the recipe has {done.num_wanted}"
        for hook, name in done.moved:
            return f"{hook} changes '{name}' in stage {number}; only after_step and end may edit weights"
    return None


def frozen(dry_run: DryRun) -> str | None:
    """Weights that do not require a gradient keep their bits."""
    names = [name for name, _ in dry_run.build().named_parameters()]
    for number, done in enumerate(dry_run.first, start=1):
        for name in names:
            stored = name.replace(".base_layer.", ".")  # peft's name; a saved state uses the original one
            if name in done.trained or stored not in done.start:
                continue
            if difference({stored: done.start[stored]}, {stored: done.state[stored]}):
                return f"stage {number} changes '{stored}', which requires no gradient"
    return None


def honesty(dry_run: DryRun) -> str | None:
    """The LM of a cell depends on the names of task and stage only if the method declares that it needs the domain."""
    if dry_run.method().configured_traits.needs_domain:
        return None
    advice = "declare traits = Traits(needs_domain=True)"
    for row, sources in enumerate(dry_run.plan.cells):
        if len(set(sources)) > 1:
            return f"the cells of row {row} fine-tune different LMs, so the method needs to know the domain of a task; {advice}"
    number, names = len(dry_run.plan.stages), dry_run.world.stream.names
    shown = dry_run.adapted(number, names[0])
    for task, told in ((names[-1], number), (names[0], 1)):
        other = dry_run.adapted(number, task, told=told)
        problem = f"adapt returns another LM for task '{task}' and stage {told}"
        if name := difference(shown.state(), other.state()):
            return f"{problem}: '{name}' differs; {advice}"
        if {name for name, _ in shown.trainable()} != {name for name, _ in other.trainable()}:
            return f"{problem}: other weights train; {advice}"
        if difference({"features": dry_run.features(shown)}, {"features": dry_run.features(other)}):
            return f"{problem}: the features of a cell differ; {advice}"
    return None


def size(dry_run: DryRun) -> str | None:
    """The reported number of added parameters is right, and grows with the domains only if the method declares it."""
    base, stream = dry_run.world.base, dry_run.world.stream
    built = dry_run.build()
    reported, found = _reported(built, base), _found(built, base)
    if reported != found:
        return f"{reported} added parameters are reported; the LM has {found} more than the untouched one"
    for number, done in enumerate(dry_run.first, start=1):
        if done.start.keys() != done.state.keys() or any(
            done.start[name].shape != done.state[name].shape for name in done.start
        ):
            return f"stage {number} ends with other weights than it began with; allocate all weights in build"
    if dry_run.method().configured_traits.grows:
        return None
    shorter = dataclasses.replace(stream, domains=stream.domains[:1])
    counts = [_total(dry_run, each) for each in (shorter, stream)]
    if counts[0] != counts[1]:
        return f"one domain adds {counts[0]} parameters and two add {counts[1]}; declare traits = Traits(grows=True)"
    return None


def text(dry_run: DryRun) -> str | None:
    """Only a method that declares it stores the text of a stage or reads the text of an earlier one."""
    if dry_run.method().configured_traits.stores_text:
        return None
    advice = "declare traits = Traits(stores_text=True)"
    for number, domains in enumerate(dry_run.plan.stages, start=1):
        if len(domains) > 1:
            return f"stage {number} trains on the text of {len(domains)} domains; {advice}"
    read = {window for blocks in dry_run.world.blocks.values() for window in _windows(blocks[np.arange(len(blocks))])}
    for number, done in enumerate(dry_run.first, start=1):
        for name, tensor in {**flatten(done.memory)[1], **done.state}.items():
            is_text = not tensor.is_floating_point() and not tensor.is_complex() and tensor.ndim > 0
            if is_text and not read.isdisjoint(_windows(tensor.cpu().numpy())):
                return f"'{name}' holds text after stage {number}; {advice}"
    return None


def start(dry_run: DryRun) -> str | None:
    """A first stage that is declared to train as another method's has its bits, and ends as if it had trained itself."""
    advice = "leave starts_as out"
    for number, (other, ended) in dry_run.shared.items():
        own, problem = dry_run.first[number - 1], f"stage {number} does not start as '{dry_run.method().starts_as}'"
        if name := difference(other.state, own.state):
            return f"{problem}: '{name}' differs at its end; {advice}"
        if other.losses != own.losses:
            return f"{problem}: it logs other losses; {advice}"
        if name := difference(own.state, ended.state) or tree_difference(own.memory, ended.memory):
            return f"{problem}: {name} differs if the other method makes the updates; {advice}"
        if own.notes != ended.notes:
            return f"{problem}: it notes other numbers if the other method makes the updates; {advice}"
    return None


def _windows(rows: npt.NDArray[np.generic]) -> Iterator[tuple[int, ...]]:
    """Yield every run of `WINDOW` numbers inside a row."""
    if rows.shape[-1] >= WINDOW:
        runs = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=-1)
        yield from map(tuple, runs.reshape(-1, WINDOW).tolist())


def plain_memory(dry_run: DryRun) -> str | None:
    """The memory of a stage survives writing to the store and reading back, without pickle."""
    for number, done in enumerate(dry_run.first, start=1):
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
    """Return the number of added parameters that results report."""
    return sum(each.numel() for each in built.parameters()) - sum(each.numel() for each in base.parameters())


def _found(built: Backbone, base: Backbone) -> int:
    """Return the number of parameters in a saved state that the untouched LM does not have."""
    sizes = {id(each): each.numel() for each in built.parameters()}
    untouched = base.state_dict(keep_vars=True)
    total = 0
    for name, tensor in built.state_dict(keep_vars=True).items():
        if name not in untouched or untouched[name].shape != tensor.shape:
            total += sizes.pop(id(tensor), 0)
    return total


def _total(dry_run: DryRun, stream: Stream) -> int:
    """Return the number of added parameters of all LMs that the last row needs."""
    built, plan = dry_run.build(stream), dry_run.plan_of(stream)
    trained = sum(each.numel() for _, each in built.trainable())
    return _reported(built, dry_run.world.base) + max(0, len(plan.kept) - 1) * trained


def sentence(law: Law) -> str:
    """Return the first sentence of the docstring of a law."""
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
    "start": start,
}
