"""Damage to any file of the store or of the corpora is found and healed with the same numbers, or refused.

The table: every file of a base, a stage (another method's that it starts as, the memory after that one, and one of its own),
a loss, a cell, a checkpoint and a corpus x everything in `harm.HARM`. Each row removes what was computed from the file, harms
the file, and runs again.
"""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
from harm import HARM
from small_streams import spec_of, write_stream

from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import Notice
from ctbench.machine.manifest import ASIDE, read_manifest

pytestmark = pytest.mark.slow

TENSORS = "weights.safetensors"
NODE_FILES = {
    "base": ("backbone.json", "config.json", TENSORS, "record.json", "tokenizer.json"),
    "start": ("memory.json", "record.json", TENSORS),
    "memory": ("memory.json", "memory.safetensors", "record.json", TENSORS),
    "stage": ("memory.json", "memory.safetensors", "record.json", TENSORS),
    "loss": ("record.json",),
    "cell": ("record.json",),
}
CHECKPOINT_FILES = (
    "memory.json",
    "memory.safetensors",
    "optimizer.safetensors",
    "progress.json",
    "record.json",
    TENSORS,
)
CORPUS_FILES = (
    "record.json",
    *(f"{part}/{name}" for part in ("held_out", "train") for name in ("meta.json", "starts.bin", "tokens.bin")),
)


def kind_of(node):
    """Return the kind of a node, and of a stage whether it is naive's, the memory after that one, or replay's own."""
    if node.kind != "stage":
        return node.kind
    return "memory" if node.identity.is_ending else {"naive": "start"}.get(node.identity.method.name, "stage")


class World:
    """A finished run of replay, whose stages have weights and memory, in a store of its own."""

    def __init__(self, folder, result):
        self.folder, self.result = folder, result
        self.nodes = spec_of(folder / "small.toml", "replay").nodes
        self.keys = {kind: [node.key for node in self.nodes if kind_of(node) == kind] for kind in NODE_FILES}

    def reader_of(self, key):
        """A node that is computed from this one: its first cell if it has any."""
        readers = [node for node in self.nodes if key in {parent.key for parent in node.parents}]
        return min(readers, key=lambda node: node.kind != "cell").key

    def copy(self, place, monkeypatch):
        shutil.copytree(self.folder / "home", place / "home")
        monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))
        return Store(home() / "store")

    def again(self, place):
        said: list[str] = []
        job = Job(method="replay", stream=self.folder / "small.toml", results=place / "results", workers=0)
        (found,) = run(job, say=said.append)
        assert np.array_equal(found.matrix, self.result.matrix)
        assert np.array_equal(found.lm_loss, self.result.lm_loss)
        assert found.backbone.weights_digest == self.result.backbone.weights_digest
        assert [each.weights_digest for each in found.stages] == [each.weights_digest for each in self.result.stages]
        return [line for line in said if line.startswith("damaged")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    smaller = {"num_documents": "60", "num_general_documents": "60", "num_train": "12", "num_validation": "0"}
    stream = write_stream(folder, tokens="1_280", epochs="1", num_test="16", seeds="[0]", **smaller)
    longer = stream.read_text(encoding="utf-8").replace("[pretrain]\ntokens = 1_280", "[pretrain]\ntokens = 7_680")
    stream.write_text(longer, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTBENCH_HOME", str(folder / "home"))
        (result,) = run(Job(method="replay", stream=stream, results=folder / "results", workers=0), say=lambda _: None)
    return World(folder, result)


def test_the_table_has_every_file(world, tmp_path, monkeypatch):
    store = world.copy(tmp_path, monkeypatch)
    for kind, names in NODE_FILES.items():
        for key in world.keys[kind]:
            assert {path.name for path in store.folder(key).iterdir()} <= {*names}, kind
        first = store.folder(world.keys[kind][0])
        assert {path.name for path in first.iterdir()} == {*names}
    for place in (home() / "corpora").iterdir():
        assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == {*CORPUS_FILES}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NODE_FILES.items() for name in names])
def test_a_damaged_node_is_named_set_aside_and_computed_again_with_the_same_numbers(
    world, tmp_path, monkeypatch, kind, name, harm
):
    store = world.copy(tmp_path, monkeypatch)
    harmed = world.keys[kind][0]
    if kind not in ("loss", "cell"):
        shutil.rmtree(store.folder(world.reader_of(harmed)))
    HARM[harm](store.folder(harmed) / name)
    assert name in (store.damage(harmed) or "")
    said = world.again(tmp_path)
    assert len(said) == 1
    assert f": {name} " in said[0]
    assert store.folder(harmed).with_suffix(ASIDE).is_dir()
    assert store.damage(harmed) is None
    assert {store.damage(key) for keys in world.keys.values() for key in keys} == {None}


@pytest.mark.parametrize("name", NODE_FILES["base"])
def test_a_damaged_base_is_found_although_the_stages_made_from_it_are_whole(world, tmp_path, monkeypatch, name):
    store = world.copy(tmp_path, monkeypatch)
    shutil.rmtree(store.folder(world.reader_of(world.keys["stage"][-1])))
    HARM["one bit flipped"](store.folder(world.keys["base"][0]) / name)
    assert len(world.again(tmp_path)) == 1
    assert store.damage(world.keys["base"][0]) is None


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", CORPUS_FILES)
def test_a_damaged_corpus_is_named_and_packed_again_with_the_same_bytes_and_numbers(
    world, tmp_path, monkeypatch, name, harm
):
    store = world.copy(tmp_path, monkeypatch)
    for key in world.keys["loss"]:  # of all domains, and of general text
        shutil.rmtree(store.folder(key))
    corpora, first = sorted((home() / "corpora").iterdir()), world.result.stream.domains[0]
    (domain,) = [each for each in corpora if read_manifest(each)["record"]["domain"] == first]
    whole = {path: path.read_bytes() for path in domain.rglob("*") if path.is_file()}
    HARM[harm](domain / name)
    with pytest.warns(Notice) as told:
        world.again(tmp_path)
    assert [str(each.message).partition(f": {name} ")[0] for each in told] == [
        f"damaged: packed text of domain {first}"
    ]
    assert {path: path.read_bytes() for path in domain.rglob("*") if path.is_file()} == whole


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def half(world, tmp_path_factory):
    """That world without its last stage, but for checkpoints of it, and without a cell of it."""
    place = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        store = world.copy(place, patch)
        for key in [*world.keys["cell"], *world.keys["loss"], world.keys["stage"][-1]]:
            shutil.rmtree(store.folder(key))
        (node,) = [
            node for node in spec_of(world.folder / "small.toml", "replay").nodes if node.key == world.keys["stage"][-1]
        ]

        def stop(step, _num_steps, _loss):
            if step == 30:  # there are checkpoints after updates 10 and 20
                raise Stop

        with pytest.raises(Stop):
            Executor(store, home() / "corpora", save_seconds=0.0).compute(node.spec(), stop)
        newest = max(store.checkpoints(node.key).iterdir())
        assert {path.name for path in newest.iterdir()} == {*CHECKPOINT_FILES}
    shutil.copy(world.folder / "small.toml", place)
    return World(place, world.result)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_numbers_stay(
    world, half, tmp_path, monkeypatch, name, harm
):
    store = half.copy(tmp_path, monkeypatch)
    newest = max(store.checkpoints(world.keys["stage"][-1]).iterdir())
    HARM[harm](newest / name)
    assert world.again(tmp_path) == []
    assert not store.checkpoints(world.keys["stage"][-1]).exists()


def test_foreign_files_are_harmless_and_nothing_whole_is_computed_again(world, half, tmp_path, monkeypatch):
    store = half.copy(tmp_path, monkeypatch)
    folders = [path for path in [home(), *home().rglob("*")] if path.is_dir()]
    for folder in folders:
        (folder / ".DS_Store").write_bytes(b"Bud1")
        (folder / "._tokens.bin").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in home().rglob("*.safetensors") if "step-" not in str(path)}
    assert world.again(tmp_path) == []
    assert Counter(path.stat().st_mtime_ns == time for path, time in before.items()) == {True: len(before)}
    assert store.damage(world.keys["stage"][0]) is None
