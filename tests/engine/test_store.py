from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
import torch
from disks import fill
from fake_records import stage_record
from safetensors import SafetensorError

from ctbench.engine import store as stores
from ctbench.engine.failures import problem_of
from ctbench.engine.materials import Materials
from ctbench.engine.store import Store
from ctbench.engine.tensors import load_changed, load_tree, save_changed, save_tensors, save_tree
from ctbench.errors import BadConfig, RunFailed
from ctbench.machine.manifest import Damaged, verify_files, write_manifest

KEY = "ab" * 32


def write(store, key=KEY, **changed):
    with store.writing(key, stage_record(**changed)) as folder:
        (folder / "weights.txt").write_text("weights")


def test_node_appears_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)

    def write_half() -> None:
        with store.writing(KEY, stage_record()) as folder:
            (folder / "half.txt").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert not store.has(KEY)
    assert not list(tmp_path.rglob("half.txt"))
    with store.writing(KEY, stage_record()):
        assert not store.has(KEY)
    assert store.read(KEY) == stage_record()


def test_a_node_that_another_process_completed_meanwhile_stays(tmp_path):
    store = Store(tmp_path)
    with store.writing(KEY, stage_record(weights_digest="late")):
        write(store, weights_digest="first")
    assert store.read(KEY).weights_digest == "first"
    assert [path.name for path in store.folder(KEY).parent.iterdir()] == [KEY]


@pytest.mark.parametrize("damage", ["", '{"x": ', "{}", "[1]", "null", None])
def test_node_whose_record_is_damaged_is_not_complete_and_can_be_written_again(tmp_path, damage):
    store = Store(tmp_path)
    write(store)
    assert store.has(KEY)
    path = store.folder(KEY) / "record.json"
    path.unlink() if damage is None else path.write_text(damage)
    assert not store.has(KEY)
    assert store.damage(KEY) is not None
    with pytest.raises(RunFailed, match="damaged"):
        store.read(KEY)
    write(store, weights_digest="new")
    assert store.read(KEY).weights_digest == "new"
    assert store.damage(KEY) is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text(""), "does not match"),
        (lambda path: path.write_text("weightt"), "does not match"),
        (lambda path: path.write_text("weights and more"), "does not match"),
    ],
)
def test_a_file_that_is_missing_or_changed_is_found(tmp_path, harm, said):
    store = Store(tmp_path)
    write(store)
    assert store.damage(KEY) is None
    harm(store.folder(KEY) / "weights.txt")
    assert said in store.damage(KEY)
    assert store.damage(KEY, thorough=False) is None
    store.set_aside(KEY)
    assert not store.has(KEY)
    assert store.damage(KEY) is None
    assert store.folder(KEY).with_suffix(".damaged").is_dir()


@pytest.mark.parametrize("name", ["record.json", "weights.txt"])
def test_a_node_that_cannot_be_read_now_is_neither_damaged_nor_lost(tmp_path, monkeypatch, name):
    store, read = Store(tmp_path), Path.read_bytes
    write(store)

    def fail(path):
        if path.name == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(path)

    with monkeypatch.context() as passing:
        passing.setattr(Path, "read_bytes", fail)
        with pytest.raises(RunFailed, match=r"cannot be read now \(Stale file handle\); run the same command again"):
            store.damage(KEY)
        with pytest.raises(RunFailed, match="cannot be read now"), Materials(store, tmp_path).reading(KEY) as folder:
            verify_files(folder)
    assert store.damage(KEY) is None


def test_a_node_that_a_network_file_system_does_not_show_yet_is_waited_for(tmp_path):
    store = Store(tmp_path)
    late = threading.Timer(0.5, write, [store])
    late.start()
    with Materials(store, tmp_path).reading(KEY) as folder:
        verify_files(folder)
    late.join()


def test_a_node_that_is_not_there_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "HIDDEN_SECONDS", 0.3)
    with pytest.raises(RunFailed, match="was damaged"), Materials(Store(tmp_path), tmp_path).reading(KEY) as folder:
        verify_files(folder)


def test_one_changed_number_in_a_record_is_found(tmp_path):
    store = Store(tmp_path)
    write(store)
    path = store.folder(KEY) / "record.json"
    sealed = json.loads(path.read_text())
    sealed["record"]["added_parameters"] += 1
    path.write_text(json.dumps(sealed))
    assert "does not match its checksum" in store.damage(KEY, thorough=False)


def test_a_record_of_another_layout_is_not_used(tmp_path):
    store = Store(tmp_path)
    write(store)
    record = json.loads((store.folder(KEY) / "record.json").read_text())["record"]
    write_manifest(store.folder(KEY), record | {"schema": 1})
    assert not store.has(KEY)


def test_weights_equal_to_the_base_cost_no_space(tmp_path):
    base = {"a": torch.zeros(1000), "b": torch.ones(3)}
    save_changed(tmp_path, "w", base | {"b": torch.zeros(3), "c": torch.ones(2)}, base)
    assert (tmp_path / "w.safetensors").stat().st_size < 1000
    write_manifest(tmp_path, {})
    back = load_changed(tmp_path, "w", base)
    assert torch.equal(back["a"], base["a"])
    assert torch.equal(back["b"], torch.zeros(3))
    assert torch.equal(back["c"], torch.ones(2))


def write_weights(store):
    """Write a node with a mebibyte of weights."""
    with store.writing(KEY, stage_record()) as folder:
        save_tensors(folder, "weights", {"a": torch.zeros(1 << 18)})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_weights_that_the_disk_refuses_are_a_problem_of_the_disk(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(RunFailed, match="cannot be written") as error:
        write_weights(Store(tmp_path))
    assert problem_of(error.value).kind == "disk"


def test_weights_on_a_full_disk_are_a_problem_of_the_disk(small_disk):
    store = Store(small_disk)
    fill(small_disk, but=1 << 16)
    with pytest.raises(RunFailed, match="No space left on device") as error:
        write_weights(store)
    assert problem_of(error.value).kind == "disk"


def test_deleted_weights_are_not_taken_for_those_of_the_base(tmp_path):
    base = {"a": torch.zeros(3)}
    save_changed(tmp_path, "w", {"a": torch.ones(3)}, base)
    write_manifest(tmp_path, {})
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(Damaged, match=r"w\.safetensors"):
        load_changed(tmp_path, "w", base)


def test_trees_hold_no_pickle_and_an_emptied_one_is_found(tmp_path):
    save_tree(tmp_path, "memory", {"a": torch.arange(3), "b": 1})
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert json.loads((tmp_path / "memory.json").read_text())["b"] == 1
    write_manifest(tmp_path, {})
    assert torch.equal(load_tree(tmp_path, "memory")["a"], torch.arange(3))
    (tmp_path / "memory.json").write_text("{}")
    with pytest.raises(Damaged, match=r"memory\.json"):
        load_tree(tmp_path, "memory")


def test_store_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="CTBENCH_HOME"):
        Store(tmp_path / "file" / "store")


def test_a_file_in_the_way_of_a_node_is_one_line(tmp_path):
    store = Store(tmp_path)
    (tmp_path / KEY[:2]).write_text("in the way")
    with pytest.raises(RunFailed, match=r"the store .* cannot be written .*set CTBENCH_HOME"), store.claim(KEY):
        pass


def test_a_store_tells_what_is_claimed(tmp_path):
    store = Store(tmp_path)
    assert not store.is_claimed(KEY)
    with store.claim(KEY):
        assert store.is_claimed(KEY)
    assert not store.is_claimed(KEY)


def test_an_error_inside_a_claim_is_its_own(tmp_path):
    def fail() -> None:
        with Store(tmp_path).claim(KEY):
            raise PermissionError(13, "of the method")

    with pytest.raises(PermissionError, match="of the method"):
        fail()
    assert not list(tmp_path.rglob("*.claim"))
