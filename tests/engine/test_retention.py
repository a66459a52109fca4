"""Held-out loss of general text: in the store, in the result, and for methods whose LMs differ by domain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_streams import spec_of, write_stream

from ctbench.data.schema import GENERAL
from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import BadData
from ctbench.training.finetune import held_out_loss
from ctbench.training.retention import bytes_per_token


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retention")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def go(place, method="naive", **options):
    return run(Job(method=method, stream=place / "small.toml", results=place / "results", workers=0, **options))[0]


def test_every_row_has_the_loss_of_general_text_under_fixed_masks(place):
    result = go(place)
    assert len(result.general_loss) == len(result.general_bits) == 3
    graph = spec_of(place / "small.toml")
    materials = Executor(Store(home() / "store"), home() / "corpora").materials
    node, recipe = graph.losses[0], graph.stream.recipe.pretrain
    base, _ = materials.base(node.lookup)
    held_out = materials.blocks(node.lookup, GENERAL, recipe.length, held_out=True)
    loss = held_out_loss(base, held_out, domain=GENERAL, recipe=recipe).loss
    assert result.general_loss[0] == loss
    assert result.general_bits[0] == pytest.approx(loss / math.log(2) / bytes_per_token(base, held_out, recipe))
    assert len({*result.general_loss}) == 3


def test_bytes_of_a_token_are_those_of_its_text(place):
    graph = spec_of(place / "small.toml")
    materials = Executor(Store(home() / "store"), home() / "corpora").materials
    go(place)
    node, recipe = graph.losses[0], graph.stream.recipe.pretrain
    base, _ = materials.base(node.lookup)
    held_out = materials.blocks(node.lookup, GENERAL, recipe.length, held_out=True)
    rows = held_out[np.arange(min(len(held_out), recipe.held_out_tokens // recipe.length))]
    words = [base.tokenizer.convert_ids_to_tokens([i for i in row if i not in base.special_ids]) for row in rows]
    wanted = sum(len(" ".join(row)) for row in words) / sum(map(len, words))
    assert bytes_per_token(base, held_out, recipe) == pytest.approx(wanted)


def test_methods_share_the_general_loss_of_row_0(place):
    assert go(place, "replay").general_loss[0] == go(place).general_loss[0]
    assert go(place, "replay").general_loss[2] != go(place).general_loss[2]


def test_rows_of_several_lms_hold_their_mean_and_empty_rows_nothing(place):
    separate = go(place, "separate")
    base, first = separate.general_loss[:2]
    graph, store = spec_of(place / "small.toml", "separate"), Store(home() / "store")
    of = {source: store.read(node.key).losses[GENERAL] for source, node in graph.general.items()}
    assert base == of[0]
    assert first == pytest.approx((of[1] + of[0]) / 2)
    assert separate.general_loss[2] == pytest.approx((of[1] + of[2]) / 2)
    assert go(place, "joint").general_loss[1] is None
    assert go(place, "joint").general_loss[2] is not None


def test_a_method_that_needs_the_domain_is_told_that_of_its_stage(place):
    assert all(value is not None for value in go(place, "prompts").general_loss)


def test_the_name_of_a_result_does_not_depend_on_retention(place):
    graph = spec_of(place / "small.toml")
    assert {node.key for node in graph.general.values()}.isdisjoint(node.key for node in graph.key_nodes)
    assert {node.key for node in graph.general.values()} < {node.key for node in graph.nodes}


def test_a_stream_without_general_text_has_no_general_loss(place, checkpoint, tmp_path):
    text = (place / "small.toml").read_text().replace('[general]\nsource = "synthetic"\n', "")
    text = text.replace("[base]", "[unused]").split("[unused]")[0] + "[pretrain]" + text.split("[pretrain]")[1]
    (tmp_path / "bare.toml").write_text(text)
    graph = spec_of(tmp_path / "bare.toml", model=str(checkpoint("roberta")))
    assert graph.general == {}


def test_general_text_too_short_to_hold_a_block_out_has_no_loss_and_fails_no_run(tmp_path):
    """Of 100 words fewer than a block of 32 tokens is held out; the untouched LM is trained on the rest."""
    (tmp_path / "general.txt").write_text("\n".join(f"some words of text {number}" for number in range(20)))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16", source='"files"\npath = "general.txt"')
    (result,) = run(Job(method="naive", stream=stream, results=tmp_path / "results", workers=0))
    assert result.is_complete
    assert result.general_loss == (None, None, None)
    assert not np.isnan(result.lm_loss).any()


def test_a_domain_too_short_for_a_block_is_refused(place):
    materials = Executor(Store(home() / "store"), home() / "corpora").materials
    node = spec_of(place / "small.toml").losses[0]
    with pytest.raises(BadData, match=r"the text has .* tokens, a block of length 100000 needs"):
        materials.blocks(node.lookup, "domain-1", 100_000, held_out=True)
    assert len(materials.blocks(node.lookup, GENERAL, 100_000, held_out=True)) == 0
