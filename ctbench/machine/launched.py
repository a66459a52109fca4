"""Which of several processes this one is, as `torchrun` tells its ranks; torch is not imported."""

from __future__ import annotations

import os
from typing import Final

from ctbench.errors import BadConfig

NEEDED: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which ranks find each other."""
_OF_ACCELERATE: Final = "ACCELERATE_DYNAMO_BACKEND"
"""Set by every way in which `accelerate launch` starts processes, and by no user."""
HOW: Final = "torchrun --nproc_per_node N -m ctbench run ..."


def num_ranks() -> int:
    """Return how many ranks train a stage together; 1 without a launcher."""
    return _number("WORLD_SIZE", default=1)


def is_follower() -> bool:
    """Return whether this process is a rank other than the first, which alone writes and prints."""
    return num_ranks() > 1 and _number("RANK", default=0) > 0


def local_rank() -> int:
    """Return the number of this rank on its machine, which is that of its GPU; 0 without a launcher."""
    return _number("LOCAL_RANK", default=0) if num_ranks() > 1 else 0


def check_launch() -> None:
    """Refuse a launcher that started one process where several were meant, or several that cannot find each other.

    Raises:
        BadConfig: the launcher, and what to use.
    """
    if num_ranks() == 1 and _OF_ACCELERATE in os.environ:
        raise BadConfig(
            f"accelerate launch has started a single process, as it always does with --cpu; use {HOW}, or call ctbench "
            "without a launcher to train in one process"
        )
    lacking = [name for name in NEEDED if name not in os.environ]
    if num_ranks() > 1 and lacking:
        raise BadConfig(f"WORLD_SIZE is {num_ranks()}, and {', '.join(lacking)} is not set; use {HOW}")


def _number(name: str, *, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
