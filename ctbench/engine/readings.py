"""How a model reads tasks and texts, as far as that changed since nodes exist: it then enters keys and protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ctbench.backbone.checkpoint import MADE, USUAL_TOKENS, find_checkpoint, model_type, takes_segments
from ctbench.backbone.families import find_family
from ctbench.backbone.objective import objective_of
from ctbench.backbone.tokenizer import load_tokenizer, quiet, read_config
from ctbench.data.encode import plain_tokenizer, separates_pairs
from ctbench.data.schema import Stream
from ctbench.data.tasktables import GENERATIVE, SyntheticTask
from ctbench.engine.identity import Arithmetic
from ctbench.machine.launched import num_ranks

PAIRS_VERSION: Final = 2
"""Raised whenever a model that reads pairs otherwise than in version 1 reads them anew. In 1 nothing told it which text of a
pair a token belongs to; a pair was joined as the tokenizer joins it if it had a separator, whether it put that in between
or not, and else by a line break, as one text that was cut at its end."""
EXACT: Final = "fp32"
"""Precision of the logits that are read off in nodes of bf16, see `Tap.exact_logits`; they were of bf16 too."""
NOISE_VERSION: Final = 2
"""Raised whenever ranks that draw dropout with torch's generator draw other numbers."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What is read otherwise than when the first nodes were made.

    Attributes:
        pairs: version of how the model reads tasks of pairs, by domain.
        cells: precision of the logits of the tasks whose answers are read off them, by domain.
        losses: precision of the logits of held-out losses; None where it is that of the node.
        noise: version of how ranks draw dropout with torch's generator; None for one process, or if nothing draws from it.
    """

    pairs: Mapping[str, int] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)
    losses: str | None = None
    noise: int | None = None

    def changed(self) -> dict[str, Any]:
        """Return as plain JSON what tasks and texts are read by and was not; ranks are no part of a protocol."""
        found = {"pairs": dict(self.pairs), "logits of cells": dict(self.cells), "logits of losses": self.losses}
        return {name: value for name, value in found.items() if value}


def readings_of(stream: Stream, model: str, arithmetic: Mapping[str, Arithmetic], *, online: bool = False) -> Readings:
    """Return how a model reads the tasks and texts of a stream.

    Args:
        stream: the stream.
        model: an embedded model, a Hugging Face id or a folder.
        arithmetic: by table of the recipe, "pretrain" and "finetune" among them.
        online: whether the network may be used.

    Raises:
        BadConfig: there is no such checkpoint, or its configuration cannot be read.
        BadData: its tokenizer cannot be read.
    """
    asked = [each.name for each in stream.domains if each.task.kind in GENERATIVE]
    is_causal = arithmetic["pretrain"].precision == "bf16" and (
        objective_of(model, stream.recipe.pretrain.objective, online=online) == "clm"
    )
    return Readings(
        pairs=_versions_of_pairs(stream, model, online),
        cells=dict.fromkeys(asked, EXACT) if arithmetic["finetune"].precision == "bf16" else {},
        losses=EXACT if is_causal else None,
        noise=NOISE_VERSION if num_ranks() > 1 and _draws_with_torch(model, arithmetic["pretrain"], online) else None,
    )


def _draws_with_torch(model: str, arithmetic: Arithmetic, online: bool) -> bool:
    """Tell whether dropout may come from torch's generator: not on a CPU, by our kernels, in a family of the table."""
    is_ours = arithmetic.device == "cpu" and not arithmetic.plain_kernels
    return not is_ours or find_family(model_type(model, online=online)) is None


def _versions_of_pairs(stream: Stream, model: str, online: bool) -> Mapping[str, int]:
    """Return the version of how a model reads the tasks of pairs, by domain; none where it is the first."""
    names = [each.name for each in stream.domains if not isinstance(each.task, SyntheticTask) and each.task.pair]
    if not names or model in MADE:  # what is made here has no segments, and always had a separator
        return {}
    with quiet():
        config = read_config(find_checkpoint(model, online=online), model)
    return dict.fromkeys(names, PAIRS_VERSION) if takes_segments(config) or _joins_anew(model, online) else {}


def _joins_anew(model: str, online: bool) -> bool:
    """Tell whether the two texts of a pair are joined otherwise than in the first version."""
    tokenizer = load_tokenizer(model, online=online)
    known = tokenizer.get_vocab().keys()
    had_separator = tokenizer.sep_token is not None or any(token in known for token in USUAL_TOKENS["sep_token"])
    return not (had_separator and separates_pairs(plain_tokenizer(tokenizer)))
