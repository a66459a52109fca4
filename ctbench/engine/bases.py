"""The LM that a run starts from: made here, shipped beside its stream, a checkpoint, or a checkpoint after a warm-up.

A shipped base is a folder `bases/STREAM-MODEL` beside the stream's TOML with the files of a saved backbone and
`base.json`. It is used where the general text, the recipe and the seed are those that it was made from. The keys of the
nodes that start from it hold the digest of its files, so they are the same on every machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.backbone.checkpoint import MADE, backbone_digest
from ctbench.data.schema import Stream
from ctbench.data.settings import BaseRecipe
from ctbench.data.split import corpus_fingerprint
from ctbench.engine.identity import Arithmetic, BaseIdentity
from ctbench.engine.node import Lookup, Node, digest, plain
from ctbench.errors import BadConfig, BadData, CTBenchError

BASE_SEED: Final = 0
"""Seed of the base, which belongs to the stream and its language and not to a run."""
ABOUT: Final = "base.json"
"""The file of a shipped base that says what it was made from."""
_LM: Final = {"mlm": "masked", "clm": "causal"}
_NOT_NUMBERS: Final = ("compiled", "warmup", "head_lr")


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from.

    Args:
        node: the node that computes it; None if its files are there.
        backbone: key of the node, or digest of the files.
    """

    node: Node | None
    backbone: str


def find_start(stream: Stream, arithmetic: Arithmetic, lookup: Lookup) -> Start:
    """Return what the runs of a stream with the model of `lookup` start from.

    Raises:
        CTBenchError: there is no such checkpoint, the general text cannot be read, or the shipped base is damaged.
    """
    model = lookup.model
    if model in MADE:
        shipped = find_shipped(stream, model)
        if shipped is not None:
            return Start(node=None, backbone=shipped_digest(shipped))
        node = made_base(stream, arithmetic, lookup)
    else:
        checkpoint = backbone_digest(model, online=lookup.online)
        if not warms_up(stream):
            return Start(node=None, backbone=checkpoint)
        node = _warmed(stream, arithmetic, lookup, checkpoint)
    return Start(node=node, backbone=node.key)


def warms_up(stream: Stream) -> bool:
    """Tell whether a checkpoint is trained on general text before row 0."""
    return stream.recipe.base is not None and stream.recipe.base.warmup != "none"


def made_base(stream: Stream, arithmetic: Arithmetic, lookup: Lookup) -> Node:
    """Return the node that makes an embedded model and trains it on general text, shipped or not."""
    identity = BaseIdentity(arithmetic=arithmetic, **_made_from(stream, lookup.model))
    return _node(identity, stream, lookup, title=f"base of {stream.name}")


def base_recipe(recipe: BaseRecipe, trains: str) -> dict[str, Any]:
    """Return what the training of a base, or of the LM head before it, depends on of a recipe, as plain JSON."""
    own = {"lr": recipe.head_lr or recipe.lr} if trains == "head" else {}
    return plain(recipe, without=_NOT_NUMBERS) | own


def _warmed(stream: Stream, arithmetic: Arithmetic, lookup: Lookup, checkpoint: str) -> Node:
    """Return the last node of a warm-up: the LM head alone, then everything if the recipe says so."""
    recipe = stream.recipe.base
    assert recipe is not None and stream.general is not None  # `require_warm_up` came first
    head = BaseIdentity(
        model="",
        backbone=checkpoint,
        trains="head",
        text=corpus_fingerprint(stream, None),
        recipe=base_recipe(recipe, "head"),
        arithmetic=arithmetic,
        seed=BASE_SEED,
    )
    node = _node(head, stream, lookup, title=f"warm-up of the LM head on the general text of {stream.name}")
    if recipe.warmup == "head":
        return node
    # Another seed: the head has seen the text that the first one draws.
    every = dataclasses.replace(
        head, trains="all", recipe=base_recipe(recipe, "all"), seed=BASE_SEED + 1, backbone=None
    )
    return _node(every, stream, lookup, node, title=f"warm-up of the LM on the general text of {stream.name}")


def _node(identity: BaseIdentity, stream: Stream, lookup: Lookup, *parents: Node, title: str) -> Node:
    assert stream.recipe.base is not None
    mine = dataclasses.replace(lookup, threads=stream.recipe.base.threads)
    return Node(identity=identity, lookup=mine, parents=parents, title=title)


# Shipped bases


def shipped_folder(stream: Stream, model: str) -> Path | None:
    """Return where the base of a stream would be shipped; None for a stream that is no file."""
    return None if stream.path is None else stream.path.parent / "bases" / f"{stream.path.stem}-{model}"


def find_shipped(stream: Stream, model: str) -> Path | None:
    """Return the folder of the shipped base, or None if there is none for this text, recipe and seed.

    Raises:
        BadData: what it says of itself cannot be read.
    """
    folder = shipped_folder(stream, model)
    if folder is None or not folder.is_dir():
        return None
    return folder if _about(folder)["made_from"] == made_from_digest(stream, model) else None


def require_shipped(stream: Stream, model: str) -> Path:
    """Return the folder of the shipped base that nodes were planned with.

    Raises:
        BadData: it is not there any more, or damaged.
    """
    folder = find_shipped(stream, model)
    if folder is None:
        raise BadData(f"the base of {model} that came with stream {stream.name} is gone; run the same command again")
    shipped_digest(folder)
    return folder


def shipped_digest(folder: Path) -> str:
    """Return the digest of the files of a shipped base.

    Raises:
        BadData: they are not those that were shipped.
    """
    try:
        found = backbone_digest(str(folder))
    except CTBenchError as error:
        raise BadData(f"the shipped base '{folder.name}' is damaged ({error}); {_ADVICE}") from None
    if found != _about(folder)["digest"]:
        raise BadData(f"the shipped base '{folder.name}' is damaged: its files are not those of its digest; {_ADVICE}")
    return found


_ADVICE: Final = "install ctbench again, or remove the folder to compute the base"


def made_from_digest(stream: Stream, model: str) -> str:
    """Return a digest of what an embedded base is made from: text, recipe and seed, and not the machine."""
    return digest(_made_from(stream, model))


def describe_shipped(folder: Path, stream: Stream, model: str, made_with: Mapping[str, Any]) -> None:
    """Write what a shipped base says of itself beside its files.

    Args:
        folder: holds the files of a saved backbone.
        stream: the stream.
        model: an embedded model.
        made_with: provenance, and the digest of the weights.
    """
    about = {"made_from": made_from_digest(stream, model), "digest": backbone_digest(str(folder)), **made_with}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _made_from(stream: Stream, model: str) -> dict[str, Any]:
    recipe = stream.recipe.base
    assert recipe is not None  # `require_base` came first
    return {
        "model": model,
        "text": corpus_fingerprint(stream, None),
        "recipe": base_recipe(recipe, "all"),
        "seed": BASE_SEED,
    }


def _about(folder: Path) -> Mapping[str, str]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return {name: str(about[name]) for name in ("made_from", "digest")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise BadData(f"the shipped base '{folder.name}' is damaged: {ABOUT} cannot be read; {_ADVICE}") from None


def require_base(stream: Stream, model: str) -> None:
    """Refuse an embedded model where it cannot be made.

    Raises:
        BadConfig: the stream has no general text or no [base], or asks for the other objective.
    """
    recipe = stream.recipe
    if stream.general is None or recipe.base is None:
        raise BadConfig(
            f"model '{model}' is pre-trained on the stream's general text, and stream {stream.name} lacks the table "
            "[general] or [base]; add them, or name another model with --model"
        )
    objective, _ = MADE[model]
    for table, part in (("pretrain", recipe.pretrain), ("base", recipe.base)):
        if part.objective not in ("auto", objective):
            fitting = next(name for name, (other, _) in MADE.items() if other == part.objective)
            raise BadConfig(
                f"{table}.objective is '{part.objective}', and {model} is a {_LM[objective]} LM; "
                f"name another model with --model, such as {fitting}"
            )


def require_warm_up(stream: Stream) -> None:
    """Refuse the warm-up of a checkpoint where there is no text for it.

    Raises:
        BadConfig: the recipe asks for one, and the stream has no general text.
    """
    if warms_up(stream) and stream.general is None:
        raise BadConfig(
            f"base.warmup trains a checkpoint on the stream's general text, and stream {stream.name} lacks the table "
            "[general]; add it, or set base.warmup=none"
        )
