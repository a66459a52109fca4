"""The one function behind every generator, so that cells are paired and identities hold bit for bit.

A generator is made from a seed, a scope (the stage's domains, or the task) and a purpose, never from a stage's index,
a method's name or a node's key. Purposes are separate streams: drawing random prompts does not shift the masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def seed_from(seed: int, scope: Sequence[str], purpose: str) -> int:
    """Return a 64-bit seed that depends on all three arguments and on nothing else.

    Args:
        seed: the run's seed in a stage, the fine-tuning seed in a cell.
        scope: names that the generator belongs to; their order does not matter.
        purpose: what is drawn, for example "masks" or "dropout".

    Examples:
        >>> seed_from(0, ["phone"], "masks") == seed_from(0, ["phone"], "blocks")
        False
    """
    text = "\x1f".join([str(seed), *sorted(scope), purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def make_generator(seed: int, scope: Sequence[str], purpose: str) -> np.random.Generator:
    """Return a numpy generator (SFC64, the fastest that numpy has) for `purpose`."""
    return np.random.Generator(np.random.SFC64(seed_from(seed, scope, purpose)))
