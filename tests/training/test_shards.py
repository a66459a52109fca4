"""Weights in shards (FSDP2): the numbers of one process, about half of the memory with two ranks, and clear refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_helpers import QUICK, RECIPE, build, make_loop
from rank_runs import CLOSE, assert_alike, largest_difference, train_with_ranks
from rank_stages import UNEVEN, make_world, train
from shard_stages import TRIALS, TwoPasses

from ctbench.backbone.shards import share_like, whole
from ctbench.data.settings import BaseRecipe, PretrainRecipe
from ctbench.errors import BadConfig
from ctbench.method import Method
from ctbench.plugins.find import find_plugins, get_method
from ctbench.training.together import require_shardable

SCRIPT = "shard_stages.py"
NAMED = ("naive", "replay", "lora", "ewc")
"""Methods that are said to train in shards."""
COMBINED = ("naive accumulate=2", "ewc checkpoint_activations=1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("alone"))


def method_of(name):
    return get_method(name, **QUICK.get(name, {}))


def alone(name, world):
    return train(TwoPasses() if name == "two passes" else method_of(name.split()[0]), world, recipe=UNEVEN)


def is_shardable(method, world):
    try:
        require_shardable(method, build(method, world.base, world.stream))
    except BadConfig:
        return False
    return True


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two ranks found."""
    return train_with_ranks(tmp_path_factory.mktemp("ranks"), 2, [*NAMED, *COMBINED, *TRIALS], script=SCRIPT)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, *COMBINED, "two passes"])
def test_shards_train_as_one_process(found, world, name):
    wanted = alone(name, world)
    assert_alike(found[name], wanted)
    for stage, other in zip(found[name]["stages"], wanted["stages"], strict=True):
        assert stage["notes"] == pytest.approx(other["notes"], rel=1e-3)
    assert any("gradient_ewc" in stage["notes"] for stage in wanted["stages"]) == name.startswith("ewc")


@pytest.mark.slow
def test_gradients_that_are_not_those_of_the_global_batch_are_caught(found, world):
    wanted = alone("naive", world)
    for name in ("rank means", "own gradients"):
        assert largest_difference(found[name], wanted, "losses") > 10 * CLOSE


@pytest.mark.slow
def test_two_ranks_hold_about_half_of_weights_gradients_and_moments(found):
    counts = found["count"]
    for what in ("weights", "gradients", "moments", "loaded moments"):
        assert 0.5 <= counts[what] / counts["whole"] < 0.51  # a tensor of an odd length makes the first shard longer
    assert counts["pass"] == counts["outside of layers"] + counts["largest layer"] < counts["whole"]


@pytest.mark.slow
def test_a_checkpoint_inside_a_stage_resumes_bit_for_bit(found):
    once, resumed = found["resume"]["stages"]
    assert resumed["losses"] == once["losses"]
    assert all(torch.equal(resumed["weights"][name], value) for name, value in once["weights"].items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reads weights", "reads shards"])
def test_a_loss_that_reads_shards_is_refused_with_the_way_to_read_them(found, name):
    assert "use stage.backbone.trainable(), which puts them together" in found[name]["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_trains_in_shards_as_in_one_process_or_is_refused(tmp_path, world, size):
    names = [name for name in find_plugins("method") if is_shardable(method_of(name), world)]
    assert {*names} == {*NAMED, "averaging", "demix", "derpp", "joint", "lwf", "separate"}
    found = train_with_ranks(tmp_path, size, names, script=SCRIPT)
    for name in names:
        assert_alike(found[name], alone(name, world))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("das", "method das edits gradients or weights between updates (after_backward, after_step)"),
        ("mer", "method mer edits gradients or weights between updates (after_step)"),
        ("hyperprompt", "method hyperprompt adds modules beside the LM (prompt"),
    ],
)
def test_methods_that_need_whole_weights_are_refused_by_name(world, name, line):
    method = method_of(name)
    with pytest.raises(BadConfig) as error:
        require_shardable(method, build(method, world.base, world.stream))
    assert line in str(error.value)
    assert "pretrain.shard_weights=false" in str(error.value)


def test_one_process_holds_everything_whole(world):
    blocks = dict(list(world.blocks.items())[:1])
    states = []
    for recipe in (RECIPE, replace(RECIPE, shard_weights=True)):
        loop = make_loop(Method(), world.base, blocks, recipe=recipe)
        loop.run()
        states.append(loop.stage.backbone.state())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_whole_tensors_stay_as_they_are():
    tensor = torch.ones(3)
    assert whole(tensor) is tensor
    assert torch.equal(share_like(tensor, torch.zeros(3)), tensor)


def test_what_cannot_be_in_shards_is_refused():
    with pytest.raises(ValueError, match="leave out shard_weights"):
        PretrainRecipe(tokens=100, shard_weights=True, compiled=True)
    with pytest.raises(ValueError, match="of a base"):
        BaseRecipe(tokens=100, shard_weights=True)
