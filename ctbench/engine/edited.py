"""Whether what a worker reads is what a node was planned with.

A node's key holds fingerprints of recipe, texts, task and checkpoint as they were when the graph was made. A worker reads
the files themselves, seconds later or, from a queue, hours later. What was edited meanwhile must not be computed under the
key of what it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ctbench.backbone.checkpoint import MADE, backbone_digest
from ctbench.data.schema import GENERAL, Stream
from ctbench.data.settings import FinetuneRecipe, PretrainRecipe
from ctbench.data.sources import task_fingerprint
from ctbench.data.split import text_digest
from ctbench.engine.bases import base_recipe, require_shipped, shipped_digest
from ctbench.engine.identity import BaseIdentity, CellIdentity, Identity, LossIdentity, StageIdentity
from ctbench.engine.node import Lookup, Spec, digest, plain
from ctbench.errors import BadConfig

Check = tuple[str, object, Callable[[], object]]
"""What is compared, what it was when the graph was made, and a function that returns what it is now."""
_LOSS_KEYS = ("length", "batch", "mask_fraction", "held_out_tokens", "threads")


def stage_recipe(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return what a stage depends on of a recipe, as plain JSON."""
    return plain(recipe, without=("tokens", "held_out_tokens", "compiled", "equal_compute"))


def loss_recipe(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return what an LM loss depends on of a recipe, as plain JSON."""
    return {key: value for key, value in plain(recipe).items() if key in _LOSS_KEYS}


def cell_recipe(recipe: FinetuneRecipe) -> dict[str, Any]:
    """Return what a cell depends on of a recipe, as plain JSON."""
    return plain(recipe, without=("seeds", "base_seeds"))


class Unedited:
    """Compares what nodes read with what they were planned with: once per process, which reads everything once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def require(self, spec: Spec, stream: Stream) -> None:
        """Refuse a node of which something was edited after the graph was made.

        Args:
            spec: of the node.
            stream: its stream, as this process has read it.

        Raises:
            BadConfig: what was edited, and what to do.
        """
        lookup = spec.lookup
        for what, planned, find in _checks(spec.identity, stream, lookup):
            own = digest([lookup.stream, lookup.recipe, dict(lookup.settings), lookup.model, what, planned])
            if own in self._seen:
                continue
            if digest(find()) != digest(planned):
                raise BadConfig(f"{what} of stream {stream.name} was edited while it ran; run the same command again")
            self._seen.add(own)


def _checks(identity: Identity, stream: Stream, lookup: Lookup) -> Iterator[Check]:
    recipe = stream.recipe
    if isinstance(identity, BaseIdentity):
        assert recipe.base is not None
        yield "the recipe of the base", dict(identity.recipe), partial(base_recipe, recipe.base, identity.trains)
        yield from _texts({GENERAL: identity.text}, stream)
        yield from _given(identity.backbone, stream, lookup)
    elif isinstance(identity, StageIdentity):
        yield "the recipe of stages", dict(identity.recipe), partial(stage_recipe, recipe.pretrain)
        general = {} if identity.general is None else {GENERAL: identity.general}
        probed = identity.probed.texts if identity.probed else {}
        yield from _texts(dict(zip(identity.domains, identity.text, strict=True)) | general | dict(probed), stream)
        yield from _given(identity.backbone, stream, lookup)
    elif isinstance(identity, LossIdentity):
        yield "the recipe of LM losses", dict(identity.recipe), partial(loss_recipe, recipe.pretrain)
        yield from _texts(dict(zip(identity.domains, identity.text, strict=True)), stream)
        yield from _given(identity.lm.backbone, stream, lookup)
    elif isinstance(identity, CellIdentity):
        domain = stream.domain(identity.domain)
        yield "the recipe of cells", dict(identity.recipe), partial(cell_recipe, recipe.finetune)
        yield f"the task of {domain.name}", identity.task, partial(task_fingerprint, stream, domain)
        yield from _given(identity.lm.backbone, stream, lookup)


def _texts(planned: Mapping[str, str], stream: Stream) -> Iterator[Check]:
    for name, fingerprint in planned.items():
        yield f"the text {name}", fingerprint, partial(text_digest, stream, name)


def _given(backbone: str | None, stream: Stream, lookup: Lookup) -> Iterator[Check]:
    """Compare a checkpoint or a shipped base; what a node has trained is in the store and has checksums."""
    if backbone is None:
        return
    if lookup.model in MADE:
        yield f"the base {lookup.model}", backbone, lambda: shipped_digest(require_shipped(stream, lookup.model))
    else:
        yield f"checkpoint {lookup.model}", backbone, partial(backbone_digest, lookup.model, online=lookup.online)
