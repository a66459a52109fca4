"""How a model reads tasks, as far as that changed since nodes exist: its version then enters the keys of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ctbench.backbone.checkpoint import MADE, find_checkpoint, takes_segments
from ctbench.backbone.tokenizer import quiet, read_config
from ctbench.data.schema import Stream
from ctbench.data.tasktables import SyntheticTask

PAIRS_VERSION: Final = 2
"""Raised whenever a model that reads pairs otherwise than in version 1 reads them anew. In 1 nothing told it which text of a
pair a token belongs to."""


def versions_of_pairs(stream: Stream, model: str, *, online: bool = False) -> Mapping[str, int]:
    """Return the version of how a model reads the tasks of pairs, by domain; none where it is the first.

    Args:
        stream: the stream.
        model: an embedded model, whose reading never changed, a Hugging Face id or a folder.
        online: whether the network may be used.

    Raises:
        BadConfig: there is no such checkpoint, or its configuration cannot be read.
    """
    names = [each.name for each in stream.domains if not isinstance(each.task, SyntheticTask) and each.task.pair]
    if not names or model in MADE:
        return {}
    with quiet():
        config = read_config(find_checkpoint(model, online=online), model)
    return dict.fromkeys(names, PAIRS_VERSION) if takes_segments(config) else {}
