"""What is edited between planning and computing is named, and nothing is computed under the key of what it was before."""

from __future__ import annotations

import pytest
from checkpoints import save_checkpoint
from small_streams import spec_of, write_stream

from ctbench.engine.compute import Executor
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig

BASE, STAGE, LOSS, CELL = 0, 1, 2, 3
EDITS = {
    "the recipe of the base": ("[base]", "lr = 1e-3", "lr = 2e-3", BASE),
    "the text general": ("[language]", "num_general_documents = 200", "num_general_documents = 201", BASE),
    "the recipe of stages": ("[pretrain]", "lr = 1e-3", "lr = 2e-3", STAGE),
    "the text domain-1": ("[language]", "num_documents = 120", "num_documents = 121", STAGE),
    "the recipe of LM losses": ("[pretrain]", "held_out_tokens = 640", "held_out_tokens = 320", LOSS),
    "the recipe of cells": ("[finetune]", "lr = 1e-3", "lr = 2e-3", CELL),
    "the task of domain-1": ("[language]", "num_test = 40", "num_test = 41", CELL),
}


@pytest.fixture
def planned(tmp_path):
    """The stream's file, and specs of a base, a stage, a loss and a cell as they were planned."""
    stream = write_stream(tmp_path, seeds="[0]", epochs="1")
    run = spec_of(stream)
    return stream, [node.spec() for node in (run.base, run.stages[0], run.losses[1], run.cells[1, "domain-1", 0])]


@pytest.mark.parametrize("what", EDITS)
def test_what_was_edited_after_the_graph_was_made_is_named_and_nothing_is_computed(planned, tmp_path, what):
    stream, specs = planned
    table, line, edited, number = EDITS[what]
    store = Store(tmp_path / "store")
    for spec in specs[: number if number < LOSS else LOSS - 1]:
        assert Executor(store, home() / "corpora").compute(spec)
    before, after = stream.read_text().split(table)
    stream.write_text(f"{before}{table}{after.replace(line, edited, 1)}")
    with pytest.raises(BadConfig, match=f"^{what} of stream small was edited while it ran; run the same command again"):
        Executor(store, home() / "corpora").compute(specs[number])
    assert not store.folder(specs[number].key).exists()


def test_what_a_node_does_not_read_may_be_edited(planned, tmp_path):
    stream, (base, *_) = planned
    stream.write_text(stream.read_text().replace("max_length = 48", "max_length = 40"))
    assert Executor(Store(tmp_path / "store"), home() / "corpora").compute(base)


def test_a_checkpoint_that_was_written_anew_is_named(tmp_path):
    stream, model = write_stream(tmp_path, seeds="[0]"), save_checkpoint("bert", tmp_path / "bert")
    spec = spec_of(stream, model=str(model)).losses[0].spec()
    save_checkpoint("bert", model, dropout=0.1)
    with pytest.raises(BadConfig, match=r"^checkpoint \S+bert of stream small was edited while it ran"):
        Executor(Store(tmp_path / "store"), home() / "corpora").compute(spec)
