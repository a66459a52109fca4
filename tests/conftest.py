"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parent)]  # imported by their bare names


os.environ.setdefault("CTBENCH_CALIBRATION", "off")  # every test has a home of its own, which `plan` would measure for


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


@pytest.fixture
def no_signal_ignored() -> Iterator[None]:
    """Tests that run in the background, or under nohup, start with ignored signals, which their children inherit."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, signal.default_int_handler) for each in numbers}
    yield
    for each, found in before.items():
        signal.signal(each, found)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of half a mebibyte, which takes root."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("this user cannot mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two domains: `stream`, `base`, `blocks` (all by name), `first` and `second` (one domain's each)."""
    from method_helpers import make_base, make_blocks, make_stream

    folder = tmp_path_factory.mktemp("small")
    stream = make_stream(folder)
    base = make_base(stream)
    blocks = make_blocks(stream, base, folder)
    first, second = ({name: blocks[name]} for name in stream.names)
    return SimpleNamespace(stream=stream, base=base, blocks=blocks, first=first, second=second)
