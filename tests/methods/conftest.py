"""A stream, its tiny LM and its packed text, made once for all tests of methods."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from method_helpers import make_base, make_blocks, make_stream


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Two domains: `stream`, `base`, `blocks` (all by name), `first` and `second` (one domain's each)."""
    folder = tmp_path_factory.mktemp("small")
    stream = make_stream(folder)
    base = make_base(stream)
    blocks = make_blocks(stream, base, folder)
    first, second = ({name: blocks[name]} for name in stream.names)
    return SimpleNamespace(stream=stream, base=base, blocks=blocks, first=first, second=second)
