"""Which recipe a job gets where it names none, and what is odd about a recipe for its model and its texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ctbench.backbone.checkpoint import MADE, weight_bytes
from ctbench.data.split import CorpusSize
from ctbench.data.stream import Stream
from ctbench.errors import CTBenchError
from ctbench.machine.launched import HOW, num_ranks
from ctbench.plugins.find import get_stream
from ctbench.results.rates import unusual_rates

CHECKPOINT: Final = "checkpoint"
"""Name of the recipe that a given checkpoint gets where nobody names one and the stream's own is for an embedded model."""
BYTES_PER_PARAMETER: Final = 4


def choose_recipe(stream: str, *, model: str | None, recipe: str | None, settings: Mapping[str, Any]) -> Stream:
    """Return a stream under the recipe that is asked for, or else the one that suits the model.

    Args:
        stream: name or path of the stream.
        model: name of the backbone, None for the recipe's own.
        recipe: name of the recipe, None where nobody named one.
        settings: settings to override, by key.

    Raises:
        CTBenchError: see `get_stream`.
    """
    found = get_stream(stream, recipe=recipe, settings=settings)
    is_given = str(model or found.recipe.model) not in MADE
    if recipe is None and is_given and found.recipe.model in MADE and CHECKPOINT in found.recipes:
        return get_stream(stream, recipe=CHECKPOINT, settings=settings)
    return found


def recipe_remarks(stream: Stream, model: str) -> tuple[str, ...]:
    """Return a line for everything that is odd about a recipe for a model in this call."""
    remarks = rate_remarks(stream, model)
    if stream.recipe.pretrain.shard_weights and num_ranks() == 1:
        remarks += (f"pretrain.shard_weights is on, and one process holds everything whole; for shards use {HOW}",)
    return remarks


def rate_remarks(stream: Stream, model: str) -> tuple[str, ...]:
    """Return a line for every learning rate of the recipe that is far from what is usual for the model."""
    if model in MADE:
        return ()
    try:
        parameters = weight_bytes(model) // BYTES_PER_PARAMETER
    except (CTBenchError, OSError):  # whoever loads it says what is wrong
        return ()
    recipe = stream.recipe
    return tuple(unusual_rates(parameters, {"pretrain.lr": recipe.pretrain.lr, "finetune.lr": recipe.finetune.lr}))


def passes(stream: Stream, corpora: Iterable[CorpusSize]) -> dict[str, float]:
    """Return how many times a stage on one domain passes over its text, by domain."""
    recipe = stream.recipe.pretrain
    tokens = recipe.num_steps * recipe.batch * recipe.length
    return {each.name: tokens / each.train_tokens for each in corpora if each.name is not None}


def passes_line(found: Mapping[str, float]) -> str:
    """Return the passes in words, the fewest and the most if there are many domains.

    Examples:
        >>> passes_line({"a": 0.5, "b": 3.2})
        'a stage passes over its text 0.5 (a) to 3.2 times (b)'
    """
    fewest, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    if f"{found[fewest]:.1f}" == f"{found[most]:.1f}":
        return f"a stage passes over its text {found[most]:.1f} times"
    return f"a stage passes over its text {found[fewest]:.1f} ({fewest}) to {found[most]:.1f} times ({most})"
