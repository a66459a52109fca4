from __future__ import annotations

import json

import pytest
import torch

from ctbench.errors import BadConfig
from ctbench.store import Store, load_weights, save_weights

KEY = "ab" * 32


def test_node_appears_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)

    def write_half() -> None:
        with store.writing(KEY, {"x": 1}) as folder:
            (folder / "half.txt").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert not store.has(KEY)
    assert not list(tmp_path.rglob("half.txt"))
    with store.writing(KEY, {"x": 1}):
        assert not store.has(KEY)
    assert store.record(KEY) == {"x": 1}


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    store = Store(tmp_path)
    stale = store.folder(KEY).with_suffix(".tmp-99999")
    stale.mkdir(parents=True)
    with store.lock(KEY), store.writing(KEY, {}):
        pass
    assert not stale.exists()


@pytest.mark.parametrize("damage", ["", '{"x": ', "{}", "[1]", None])
def test_node_whose_record_was_damaged_is_computed_again(tmp_path, damage):
    store = Store(tmp_path)
    with store.writing(KEY, {"x": 1}) as folder:
        (folder / "weights.txt").write_text("old")
    assert store.has(KEY)
    path = store.folder(KEY) / "record.json"
    path.unlink() if damage is None else path.write_text(damage)
    assert not store.has(KEY)
    with store.writing(KEY, {"x": 2}):
        pass
    assert store.record(KEY) == {"x": 2}
    assert [path.name for path in store.folder(KEY).iterdir()] == ["record.json"]


def test_weights_equal_to_the_base_cost_no_space(tmp_path):
    base = {"a": torch.zeros(1000), "b": torch.ones(3)}
    save_weights(tmp_path / "w.safetensors", base | {"b": torch.zeros(3), "c": torch.ones(2)}, base)
    assert (tmp_path / "w.safetensors").stat().st_size < 1000
    back = load_weights(tmp_path / "w.safetensors", base)
    assert torch.equal(back["a"], base["a"])
    assert torch.equal(back["b"], torch.zeros(3))
    assert torch.equal(back["c"], torch.ones(2))


def test_trees_hold_no_pickle(tmp_path):
    store = Store(tmp_path)
    store.save_tree(tmp_path, "memory", {"a": torch.arange(3), "b": 1})
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert json.loads((tmp_path / "memory.json").read_text())["b"] == 1
    assert torch.equal(store.load_tree(tmp_path, "memory")["a"], torch.arange(3))


def test_store_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="CTBENCH_HOME"):
        Store(tmp_path / "file" / "store")
