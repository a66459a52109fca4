"""What tells the runs of one call apart, in the titles of their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctbench.data.override import METHOD
from ctbench.engine.description import shown_model
from ctbench.engine.inputs import Inputs

Aspects = dict[str, str]
"""What a run is asked for, in words, by option or key."""
OF_RUN = ("seed", "order")
"""Aspects that row 0 does not depend on, beside those of the method."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the titles of nodes begin with.

    Args:
        run: tells runs apart.
        start: tells stages apart that several methods start as, and their rows.
        base: tells row 0 apart, which all methods and seeds share.
    """

    run: str = ""
    start: str = ""
    base: str = ""


ALONE = Labels()


def labels_of(runs: Sequence[tuple[Inputs, int]]) -> list[Labels]:
    """Return the labels of runs, each given by its inputs and its seed."""
    every = [_aspects(inputs, seed) for inputs, seed in runs]
    varying = _varying(every)
    starts = [inputs.start[0].name if inputs.start else None for inputs, _ in runs]
    return [_labels(aspects, varying, start) for aspects, start in zip(every, starts, strict=True)]


def _aspects(inputs: Inputs, seed: int) -> Aspects:
    """Return everything that may tell a run from another one."""
    job, stream = inputs.job, inputs.stream
    found = {METHOD: inputs.plugin.name}
    found |= {f"{METHOD}.{key}": f"{key}={value}" for key, value in job.method_settings.items()}
    found |= {"stream": stream.name, "model": shown_model(inputs.model), "recipe": f"recipe {stream.recipe.name}"}
    found |= {key: f"{key}={value}" for key, value in job.settings.items()}
    return found | {"order": f"order {stream.order}", "seed": f"seed {seed}"}


def _varying(every: Iterable[Aspects]) -> set[str]:
    """Return the aspects that are not the same in all runs."""
    found = list(every)
    keys = {key for aspects in found for key in aspects}
    return {key for key in keys if len({aspects.get(key) for aspects in found}) > 1}


def _labels(aspects: Aspects, varying: set[str], start: str | None) -> Labels:
    mine = {key: text for key, text in aspects.items() if key in varying}
    shared = {key: text for key, text in mine.items() if key.partition(".")[0] != METHOD}
    base = [text for key, text in shared.items() if key not in OF_RUN]
    of_start = [start] if start is not None and METHOD in mine else []
    return Labels(run=", ".join(mine.values()), start=", ".join([*of_start, *shared.values()]), base=", ".join(base))
