"""Whatever lies in the store is a node or is damaged, and everything that lists, verifies and prunes it goes on."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from fake_records import cell_record, stage_record
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, EDITS, dump, edit, mutate, outcome

from ctbench.data.tokens import PARTS
from ctbench.engine.inventory import damage, running, take_inventory
from ctbench.engine.prune import sweep
from ctbench.engine.records import RECORD_SCHEMA, to_json
from ctbench.engine.resume import load_checkpoint, save_checkpoint
from ctbench.engine.speeds import read_speeds
from ctbench.engine.store import Store
from ctbench.errors import CTBenchError
from ctbench.machine.claims import Owner, is_stale, read_owner, remove_stale
from ctbench.machine.manifest import damage_of, write_manifest
from ctbench.training.checkpoint import StageCheckpoint

KEY = "ab" * 32
CORPUS = "cd" * 16
RECORDS = [
    {"schema": RECORD_SCHEMA, "about": {"stream": "s", "method": "m", "title": "t"}} | to_json(record)
    for record in (stage_record(), cell_record())
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def look_at_everything(home):
    """List, verify and read the one node there."""
    store = Store(home / "store")
    (entry,) = take_inventory(home)
    assert (store.damage(KEY) is None) == store.has(KEY)
    assert store.has(KEY) or damage(entry) is not None
    sweep(home)
    return store.read(KEY)


@given(st.sampled_from(RECORDS), EDITS)
def test_record_that_is_sealed_and_holds_other_values(home, record, edits):
    folder = Store(home / "store").folder(KEY)
    folder.mkdir(parents=True, exist_ok=True)
    changed = edit(record, edits)
    outcome(lambda: (seal(folder, changed), look_at_everything(home)), folder=home)


def seal(folder, record):
    """Write a record with the checksum that fits it."""
    try:
        (folder / "record.json").unlink(missing_ok=True)
        write_manifest(folder, record)
    except ValueError:  # what JSON cannot hold is not written
        write_manifest(folder, {})


@given(st.sampled_from(RECORDS), CHANGES, EDITS)
def test_record_whose_bytes_are_changed(home, record, changes, edits):
    folder = Store(home / "store").folder(KEY)
    folder.mkdir(parents=True, exist_ok=True)
    seal(folder, record)
    sealed = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_bytes(mutate(dump(edit(sealed, edits)), changes))
    found = outcome(lambda: look_at_everything(home), folder=home)
    if not isinstance(found, CTBenchError):  # no change was one in meaning
        assert json.loads((folder / "record.json").read_bytes())["record"] == json.loads(json.dumps(record))


@given(EDITS, CHANGES, st.sampled_from(["", "t", ".t", "two words"]))
def test_claim(home, edits, changes, name):
    path = home / "store" / "ef" / f"{'ef' * 32}.claim"
    (path if name else path.parent).mkdir(parents=True, exist_ok=True)
    plain = {"host": "elsewhere", "process": 1, "started": "1", "token": "t"}
    (path / name).write_bytes(mutate(dump(edit(plain, edits)), changes))
    try:
        outcome(lambda: (str(read_owner(path)), is_stale(path), running(home)))
        assert isinstance(read_owner(path), Owner) == (name != ".t")
        os.utime(path / name, (0, 0))
        outcome(lambda: remove_stale(path))
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


SPEED = {"kind": "cell", "layer_parameters": 100, "precision": "fp32", "threads": 1, "seconds": 0.1, "examples": 3}


@given(EDITS, CHANGES)
def test_speeds(home, edits, changes):
    (home / "speeds.json").write_bytes(mutate(dump(edit([SPEED, SPEED], edits)), changes))
    for row in outcome(lambda: read_speeds(home)):
        assert row["layer_parameters"] > 0


@given(EDITS)
def test_checkpoint_that_is_sealed_and_holds_other_values(tmp_path_factory, edits):
    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(folder, StageCheckpoint(step=10, log={"loss": [1.0]}))
    slot = folder / "step-000000010"
    progress = json.loads((slot / "progress.json").read_text())
    (slot / "progress.json").write_bytes(dump(edit(progress, edits)))
    (slot / "record.json").unlink()
    write_manifest(slot, {})
    outcome(lambda: load_checkpoint(folder), folder=folder)


@given(EDITS, CHANGES)
def test_record_of_a_corpus(tmp_path_factory, edits, changes):
    folder = tmp_path_factory.mktemp("home") / "corpora" / CORPUS
    folder.mkdir(parents=True)
    record = {"stream": "s", "domain": None, "sizes": {part: [1, 2] for part in PARTS}}
    seal(folder, edit(record, edits))
    path = folder / "record.json"
    path.write_bytes(mutate(path.read_bytes(), changes))
    outcome(lambda: (damage_of(folder), take_inventory(folder.parent.parent)))
