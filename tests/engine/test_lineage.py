"""A base or stage that is computed again with other bits, on another machine, takes along what was made from the former one."""

from __future__ import annotations

import shutil

import pytest
from small_streams import spec_of, write_stream

from ctbench.engine import materials
from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import RunFailed
from ctbench.machine.manifest import read_manifest, write_manifest

AGAIN = "what it was made from was computed again, with other bits"


@pytest.fixture
def stream(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    return write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")


@pytest.fixture
def another_machine(monkeypatch):
    """Lets bases end in other bits from now on."""
    build = materials.build_tiny

    def make():
        monkeypatch.setattr(materials, "build_tiny", lambda texts, seed, name: build(texts, seed=seed + 1, name=name))

    return make


def compute(stream, **options):
    return run(Job(method="lora", stream=stream, workers=0, **options))[0]


def lose(key):
    shutil.rmtree(Store(home() / "store").folder(key))


def test_what_was_made_from_the_former_base_is_named_and_made_again(stream, another_machine, monkeypatch, tmp_path):
    first, nodes = compute(stream), spec_of(stream, "lora")
    another_machine()
    lose(nodes.base.key)
    lose(nodes.cells[2, "domain-2", 0].key)
    with pytest.raises(RunFailed, match=AGAIN):  # the base was planned as the only thing to compute beside that cell
        compute(stream)
    store = Store(home() / "store")
    assert AGAIN in {store.damage(node.key, thorough=False) for node in nodes.stages}
    mixed = compute(stream)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "anew"))
    anew = compute(stream)
    assert mixed.matrix.tolist() == anew.matrix.tolist()
    assert mixed.lm_loss.tolist() == anew.lm_loss.tolist() != first.lm_loss.tolist()
    assert mixed.backbone.weights_digest == anew.backbone.weights_digest != first.backbone.weights_digest


def test_what_was_made_from_a_base_that_is_computed_again_to_the_bit_stays(stream):
    first, nodes = compute(stream), spec_of(stream, "lora")
    lose(nodes.base.key)
    lose(nodes.cells[2, "domain-2", 0].key)
    again = compute(stream)
    assert again.matrix.tolist() == first.matrix.tolist()
    assert not list((home() / "store").glob("??/*.damaged"))


def test_weights_of_an_older_store_are_not_laid_over_another_base(stream, another_machine):
    compute(stream)
    nodes, store = spec_of(stream, "lora"), Store(home() / "store")
    for node in (nodes.base, nodes.stages[0]):  # records of before held no lineage
        folder = store.folder(node.key)
        record = read_manifest(folder)["record"]
        write_manifest(folder, {name: value for name, value in record.items() if name != "lineage"})
    another_machine()
    lose(nodes.base.key)
    lose(nodes.cells[1, "domain-1", 0].key)
    executor = Executor(store, home() / "corpora")
    assert executor.compute(nodes.base.spec())
    with pytest.raises(RunFailed, match=AGAIN):
        executor.compute(nodes.cells[1, "domain-1", 0].spec())
    assert not store.has(nodes.stages[0].key)
