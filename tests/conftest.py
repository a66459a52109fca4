"""Fixtures that several test files share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helpers beside the tests are imported by their bare names


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function from a family's model_type to the folder of a tiny random checkpoint."""
    made: dict[tuple[str, float], Path] = {}

    def get(model_type: str, dropout: float = 0.0) -> Path:
        from checkpoints import save_checkpoint

        key = (model_type, dropout)
        if key not in made:
            made[key] = save_checkpoint(model_type, tmp_path_factory.mktemp(model_type), dropout=dropout)
        return made[key]

    return get
