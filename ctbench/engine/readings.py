"""How a model reads tasks, as far as that changed since nodes exist: its version then enters the keys of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ctbench.backbone.checkpoint import MADE, USUAL_TOKENS, find_checkpoint, takes_segments
from ctbench.backbone.tokenizer import load_tokenizer, quiet, read_config
from ctbench.data.encode import plain_tokenizer, separates_pairs
from ctbench.data.schema import Stream
from ctbench.data.tasktables import SyntheticTask

PAIRS_VERSION: Final = 2
"""Raised whenever a model that reads pairs otherwise than in version 1 reads them anew. In 1 nothing told it which text of a
pair a token belongs to; a pair was joined as the tokenizer joins it if it had a separator, whether it put that in between
or not, and else by a line break, as one text that was cut at its end."""


def versions_of_pairs(stream: Stream, model: str, *, online: bool = False) -> Mapping[str, int]:
    """Return the version of how a model reads the tasks of pairs, by domain; none where it is the first.

    Args:
        stream: the stream.
        model: an embedded model, whose reading never changed, a Hugging Face id or a folder.
        online: whether the network may be used.

    Raises:
        BadConfig: there is no such checkpoint, or its configuration cannot be read.
        BadData: its tokenizer cannot be read.
    """
    names = [each.name for each in stream.domains if not isinstance(each.task, SyntheticTask) and each.task.pair]
    if not names or model in MADE:
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
