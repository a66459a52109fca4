"""What an LM still knows of general text: its held-out loss there, and how many bytes a predicted token stands for."""

from __future__ import annotations

import math

import numpy as np

from ctbench.backbone import Backbone
from ctbench.data.settings import PretrainRecipe
from ctbench.data.tokens import Blocks


def bytes_per_token(backbone: Backbone, blocks: Blocks, recipe: PretrainRecipe) -> float:
    """Return the mean number of bytes (UTF-8) of a token of the held-out blocks that are read; NaN without tokens.

    Special tokens do not count. The text is what the tokenizer decodes.
    """
    count = min(len(blocks), max(1, recipe.held_out_tokens // blocks.length))
    num_bytes = num_tokens = 0
    special = backbone.special_ids
    for row in blocks[np.arange(count)].tolist():
        ids = [number for number in row if number not in special]
        num_tokens += len(ids)
        num_bytes += len(backbone.tokenizer.decode(ids).encode("utf-8"))
    return num_bytes / num_tokens if num_tokens else math.nan


def bits_per_byte(loss: float, width: float) -> float:
    """Return a loss in bits per byte of text.

    Args:
        loss: nats per predicted token.
        width: bytes per token.

    Examples:
        >>> round(bits_per_byte(2 * math.log(2), 4.0), 12)
        0.5
    """
    return loss / math.log(2) / width
