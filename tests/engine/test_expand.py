from __future__ import annotations

import dataclasses
import shutil

from safetensors.torch import load_file, save_file
from small_streams import spec_of, write_method, write_stream

from ctbench.engine.identity import Arithmetic, BaseIdentity
from ctbench.engine.node import Lookup, Node, Spec, in_order


def node(seed, parents=(), **changed):
    arithmetic = Arithmetic(precision="fp32", **changed)
    identity = BaseIdentity(model="tiny", text="", recipe={}, arithmetic=arithmetic, seed=seed)
    return Node(identity=identity, lookup=lookup(), parents=parents)


def lookup(**changed):
    return Lookup(
        **{"stream": "s", "recipe": "", "settings": {}, "order": 0, "model": "tiny", "online": False} | changed
    )


def test_key_depends_on_identity_and_parents_and_not_on_where_things_lie():
    first = node(1)
    assert dataclasses.replace(first, lookup=lookup(stream="elsewhere"), title="other").key == first.key
    assert node(2).key != first.key
    assert node(1, plain_kernels=True).key != first.key
    assert node(1, parents=(first,)).key != first.key


def test_in_order_puts_parents_first_and_each_node_once():
    base = node(0)
    left, right = node(1, (base,)), node(2, (base,))
    assert [n.key for n in in_order([right, left])] == [n.key for n in (base, right, left)]


def test_methods_share_the_base_row_0_and_nothing_else(tmp_path):
    stream = write_stream(tmp_path)
    naive, das = spec_of(stream, "naive"), spec_of(stream, "das")
    shared = {n.key for n in naive.nodes} & {n.key for n in das.nodes}
    expected = {naive.base.key, naive.losses[0].key, naive.general[0].key} | {
        cell.key for (source, *_), cell in naive.cells.items() if source == 0
    }
    assert shared == expected


def test_a_moved_stream_keeps_its_keys_and_an_edited_recipe_does_not(tmp_path):
    first = spec_of(write_stream(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    moved = spec_of(write_stream(tmp_path / "elsewhere"))
    assert {n.key for n in first.nodes} == {n.key for n in moved.nodes}
    edited = spec_of(write_stream(tmp_path, "edited", mask_fraction="0.2"))
    assert edited.base.key == first.base.key
    assert not {n.key for n in edited.stages} & {n.key for n in first.stages}


def test_editing_a_method_file_changes_its_stages_and_cells_but_not_base_or_row_0(tmp_path):
    stream = write_stream(tmp_path)
    body = "def after_step(self, stage):\n    pass"
    before = spec_of(stream, str(write_method(tmp_path, body)))
    after = spec_of(stream, str(write_method(tmp_path, body.replace("pass", "return None"))))
    assert before.base.key == after.base.key
    for key, cell in before.cells.items():
        assert (cell.key == after.cells[key].key) == (key[0] == 0)
    assert all(a.key != b.key for a, b in zip(before.stages, after.stages, strict=True))


def test_a_gpu_enters_all_keys_and_compiled_layers_those_of_stages(tmp_path, monkeypatch):
    stream = write_stream(tmp_path)
    asked = {"pretrain.compiled": "true"}
    on_cpu = spec_of(stream)
    assert [node.key for node in spec_of(stream, settings=asked).nodes] == [node.key for node in on_cpu.nodes]
    monkeypatch.setattr("ctbench.engine.inputs.accelerator", lambda: "cuda")
    plain, compiled = spec_of(stream), spec_of(stream, settings=asked)
    assert not {node.key for node in plain.nodes} & {node.key for node in on_cpu.nodes}
    assert all(node.identity.arithmetic.device == "cuda" for node in plain.nodes)
    assert compiled.base.key == plain.base.key
    assert compiled.losses[0].key == plain.losses[0].key
    assert not {node.key for node in compiled.stages} & {node.key for node in plain.stages}
    assert all(node.identity.arithmetic.compiled for node in compiled.stages)
    monkeypatch.setattr("ctbench.engine.inputs.accelerator", lambda: "mps")
    assert not spec_of(stream, settings=asked).stages[0].identity.arithmetic.compiled


def test_seed_varies_stages_and_not_the_base(tmp_path):
    stream = write_stream(tmp_path)
    zero, one = spec_of(stream, seed=0), spec_of(stream, seed=1)
    assert zero.base.key == one.base.key
    assert zero.stages[0].key != one.stages[0].key
    assert zero.key != one.key


def test_a_spec_survives_the_way_to_a_worker(tmp_path):
    run = spec_of(write_stream(tmp_path), "hyperprompt")
    for each in run.nodes:
        assert Spec.from_json(each.spec().to_json()) == each.spec()
        assert each.spec().key == each.key


def test_plain_kernels_enter_every_key(tmp_path, monkeypatch):
    stream = write_stream(tmp_path)
    ours = {node.key for node in spec_of(stream).nodes}
    monkeypatch.setenv("CTBENCH_PLAIN_KERNELS", "1")
    assert not ours & {node.key for node in spec_of(stream).nodes}


def test_keys_follow_the_weights_of_a_checkpoint_and_not_its_place(tmp_path, checkpoint):
    stream, folder = write_stream(tmp_path), checkpoint("bert")

    def keys(model):
        return [node.key for node in spec_of(stream, model=str(model)).nodes]

    shutil.copytree(folder, tmp_path / "moved")
    assert keys(tmp_path / "moved") == keys(folder)
    shutil.copytree(folder, tmp_path / "other" / folder.name)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name] + 1}, tmp_path / "other" / folder.name / "model.safetensors")
    assert not set(keys(tmp_path / "other" / folder.name)) & set(keys(folder))
