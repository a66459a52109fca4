"""What is counted of an LM and of a stage's text for a node's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ctbench.backbone import Backbone
from ctbench.data.tokens import Blocks
from ctbench.memory import Tree, num_bytes

UNKNOWN_SHARE: Final = 0.1
"""From this share on, a stage notes how many tokens of its text the tokenizer does not know."""
SAMPLED_BLOCKS: Final = 1000
"""Number of blocks of a text that are looked at."""


def unknown_share(blocks: Mapping[str, Blocks], tokenizer: Any) -> float:
    """Return the share of unknown tokens in the first blocks of a stage's text; 0 where that token has another use."""
    if tokenizer.unk_token_id in (None, tokenizer.eos_token_id, tokenizer.sep_token_id):
        return 0.0
    read = [each[np.arange(min(len(each), SAMPLED_BLOCKS))] for each in blocks.values()]
    return float((np.concatenate(read) == tokenizer.unk_token_id).mean())


def num_parameters(backbone: Backbone) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in backbone.parameters())


def stored_bytes(backbone: Backbone, base: Backbone, memory: Tree) -> int:
    """Return the size of the memory, and of the buffers that the LM has beside those of the base."""
    stored = backbone.state_dict().keys() - {name for name, _ in base.named_buffers()}
    buffers = [buffer for name, buffer in backbone.named_buffers() if name in stored]
    return num_bytes(memory) + sum(buffer.numel() * buffer.element_size() for buffer in buffers)
