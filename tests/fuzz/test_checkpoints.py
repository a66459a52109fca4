"""Any checkpoint is loaded, or is refused in one line: good ones with changed configurations, tokenizers and weights."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, edit, mutate, outcome

from ctbench.backbone.loading import load_backbone
from ctbench.errors import CTBenchError

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(-2, 2, allow_nan=False),
    st.text(max_size=6),
    st.sampled_from(["gelu", "no", "bert", "t5", "\0", "x" * 5000, [], {}, [[]], {"": None}, [1, 2]]),
)
EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["remove", "replace", "add"]), VALUES), max_size=2)
"""Places in a file of JSON, and what happens there; no number is so large that a model of that size could not be made."""


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """A good checkpoint, whose files are written anew for each case."""
    root = tmp_path_factory.mktemp("checkpoints") / "own"
    shutil.copytree(checkpoint("bert"), root)
    return root, {path.name: path.read_bytes() for path in root.iterdir()}


def look_at(folder, name, content):
    """Load the checkpoint with one file changed."""
    root, files = folder
    for each, whole in files.items():
        (root / each).write_bytes(content if each == name else whole)
    return outcome(lambda: load_backbone(str(root)), folder=root)


@given(st.sampled_from(["config.json", "tokenizer_config.json", "tokenizer.json"]), EDITS)
def test_checkpoint_whose_values_are_changed(folder, name, edits):
    look_at(folder, name, json.dumps(edit(json.loads(folder[1][name]), edits)).encode())


@given(st.sampled_from(["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"]), CHANGES)
def test_checkpoint_whose_bytes_are_changed(folder, name, changes):
    look_at(folder, name, mutate(folder[1][name], changes))


def test_the_checkpoint_that_is_changed_is_good_before(folder):
    found = look_at(folder, "", b"")
    assert not isinstance(found, CTBenchError), found
