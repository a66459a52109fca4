"""Several ranks, several parts of a batch and recomputed layers: the numbers of one process that computes all at once."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints import make_tokenizer
from method_helpers import QUICK, core_first
from rank_runs import CLOSE, assert_alike, largest_difference, train_with_ranks
from rank_stages import CONTROLS, UNEVEN, make_world, train

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.loading import load_backbone
from ctbench.backbone.replay import checkpoint_layers
from ctbench.backbone.shared import Sharing
from ctbench.kernels.dropout import DropoutSource
from ctbench.machine.ranks import ALONE, Ranks
from ctbench.masking import Masker
from ctbench.method import Method
from ctbench.plugins.find import find_plugins, get_method

SHARE_PASSES = ("das",)
"""Passes of one update share what they can where nothing is computed again: gradients are sums in another order."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("alone"))


def alone(name, world, **changes):
    method = CONTROLS[name][0]() if name in CONTROLS else get_method(name, **QUICK.get(name, {}))
    return train(method, world, recipe=replace(UNEVEN, **changes))


@pytest.mark.slow
def test_two_ranks_train_as_one_process_and_what_would_differ_is_caught(tmp_path, world):
    found = train_with_ranks(tmp_path, 2, ["das", "hyperprompt", *CONTROLS])
    for name in ("das", "hyperprompt", "whole batch"):
        assert_alike(found[name], alone(name, world))
    assert largest_difference(found["rank means"], alone("naive", world), "losses") > 10 * CLOSE
    assert "the loss differs between ranks" in found["own rows"]["refused"]
    assert "the loss differs between ranks" in found["gradients in the loss"]["refused"]
    for name in ("own noise", "no average"):
        assert "weights differ between ranks" in found[name]["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_trains_with_ranks_as_in_one_process(tmp_path, world, size):
    names = list(find_plugins("method"))
    found = train_with_ranks(tmp_path, size, names)
    for name in names:
        assert_alike(found[name], alone(name, world))


@pytest.mark.parametrize("name", core_first(find_plugins("method"), core=("das", "hyperprompt")))
@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"checkpoint_activations": True}], ids=["parts", "layers"])
def test_recomputed_passes_train_as_those_that_keep_everything(world, name, changes):
    found, wanted = alone(name, world, **changes), alone(name, world)
    assert_alike(found, wanted)
    if "checkpoint_activations" in changes and name not in SHARE_PASSES:
        assert [stage["losses"] for stage in found["stages"]] == [stage["losses"] for stage in wanted["stages"]]


def gradients_of(backbone, batch, *, seed=3):
    backbone.dropout_source.reseed(seed)
    output = backbone(batch)
    total = output.loss + output.hidden.square().mean() + output.logits.std()
    backbone.zero_grad()
    total.backward()
    return total.item(), torch.cat(
        [weight.grad.flatten() for weight in backbone.parameters() if weight.grad is not None]
    )


@pytest.fixture(scope="module")
def dropping(checkpoint):
    """An LM with dropout, and a batch of five rows."""
    backbone = load_backbone(str(checkpoint("bert", dropout=0.2)))
    backbone.train()
    blocks = np.random.default_rng(0).integers(5, backbone.vocab_size, (5, 12))
    return backbone, Masker.of(backbone, 0.3)(blocks, np.random.default_rng(1))


@pytest.mark.parametrize("num_parts", [2, 5])
def test_parts_of_a_batch_get_the_dropout_of_the_whole(dropping, num_parts):
    backbone, batch = dropping
    wanted = gradients_of(backbone, batch)
    parted = copy.deepcopy(backbone)
    parted.sharing = Sharing(ALONE, num_parts)
    found = gradients_of(parted, batch)
    assert found[0] == pytest.approx(wanted[0], abs=CLOSE)
    torch.testing.assert_close(found[1], wanted[1], atol=CLOSE, rtol=0)
    other = gradients_of(parted, batch, seed=4)
    assert (other[1] - wanted[1]).abs().max() > 100 * CLOSE  # dropout matters


def kept_bytes(backbone, batch):
    """Return the size of what a pass keeps for its gradient, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in backbone.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = backbone(batch).loss
    assert loss.requires_grad
    return sum(kept.values())


def test_parts_keep_no_activations_and_recomputed_layers_few(dropping):
    backbone, batch = dropping
    whole = kept_bytes(backbone, batch)
    parted, layered = copy.deepcopy(backbone), copy.deepcopy(backbone)
    parted.sharing = Sharing(ALONE, 1)
    assert kept_bytes(parted, batch) == pytest.approx(whole, rel=0.01)
    parted.sharing = Sharing(ALONE, 5)
    checkpoint_layers(layered)
    assert kept_bytes(parted, batch) < 0.05 * whole
    assert kept_bytes(layered, batch) < 0.5 * whole


def test_predicted_places_may_stand_in_any_order(dropping):
    backbone, batch = dropping
    order = torch.randperm(len(batch.positions), generator=torch.Generator().manual_seed(0))
    mixed = replace(batch, positions=batch.positions[order], targets=batch.targets[order])
    backbone = copy.deepcopy(backbone).eval()
    wanted = backbone(mixed)
    backbone.sharing = Sharing(ALONE, 2)
    found = backbone(mixed)
    torch.testing.assert_close(found.logits, wanted.logits, atol=CLOSE, rtol=0)
    assert found.loss.item() == pytest.approx(wanted.loss.item(), abs=CLOSE)


def test_rows_without_a_predicted_place_count_for_nothing(dropping):
    backbone, batch = dropping
    kept = batch.positions < 3 * batch.input_ids.shape[1]
    few = replace(batch, positions=batch.positions[kept], targets=batch.targets[kept])
    backbone = copy.deepcopy(backbone).eval()
    wanted = backbone(few).loss.item()
    backbone.sharing = Sharing(ALONE, 5)
    assert backbone(few).loss.item() == pytest.approx(wanted, abs=CLOSE)


def test_a_dropout_mask_of_some_rows_is_cut_from_that_of_all():
    whole = DropoutSource(1).keep((6, 4), 0.5, torch.float32)
    source = DropoutSource(1)
    with source.sharing() as take:
        take(2, 3, 6)
        assert torch.equal(source.keep((3, 4), 0.5, torch.float32), whole[2:5])
    heads = DropoutSource(1).keep((12, 4), 0.5, torch.float32)
    with DropoutSource(1).sharing() as take:
        pass
    source = DropoutSource(1)
    with source.sharing() as take:
        take(2, 3, 6)
        assert torch.equal(source.keep((6, 4), 0.5, torch.float32), heads[4:10])


def test_rows_are_shared_out_evenly():
    assert Ranks(0, 3).share(8) == [3, 3, 2]
    assert Ranks(1, 2).share(2) == [1, 1]


def test_a_pass_with_a_gradient_outside_of_the_loss_is_not_shared(world):
    """Ranks would each get a gradient of their own rows, and nobody averages them."""
    backbone = copy.deepcopy(world.base)
    blocks = next(iter(world.blocks.values()))
    batch = Masker.of(backbone, 0.3)(blocks[np.arange(4)], np.random.default_rng(0))
    backbone.sharing = Sharing(Ranks(1, 2))
    assert backbone(batch).hidden.shape[0] == 4  # without a word to the other rank, who does not exist
    assert Method.loss  # what is averaged is the loss of a method, see the test of two ranks


@pytest.fixture(scope="module")
def foreign():
    """An LM of a family without a row in the table, whose attention draws dropout from torch's generator."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 32, "embedding_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    shares = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.0}
    config = AlbertConfig(vocab_size=len(tokenizer), num_hidden_layers=1, **sizes, **shares)
    torch.manual_seed(0)
    return Backbone(AlbertForMaskedLM(config), tokenizer=tokenizer, objective="mlm", name="albert").train()


def drawn_by(backbone, number, num_passes=1, forward_tokens=0):
    """The hidden states of a rank's own rows in the passes of an update, and what torch draws next."""
    torch.manual_seed(3)
    backbone.forward_tokens = forward_tokens
    batch = Batch(input_ids=torch.arange(5, 13).expand(4, 8))  # equal rows
    backbone.sharing = Sharing(Ranks(number, 2))
    with torch.random.fork_rng(devices=[]), backbone.sharing.averaging():
        found = [backbone(batch)._parts[0].hidden.detach() for _ in range(num_passes)]
        return found, float(torch.rand(()))


def test_ranks_draw_dropout_of_torch_apart_on_a_cpu_and_their_generators_stay_in_step(foreign):
    ((first,), after), ((second,), after_second) = (drawn_by(foreign, number) for number in (0, 1))
    assert not torch.equal(first, second)
    assert after == after_second
    ((again,), _) = drawn_by(foreign, 0)
    assert torch.equal(first, again)


def test_dropout_of_ranks_does_not_depend_on_the_passes_before_an_update_but_differs_within_it(foreign):
    """A resumed stage has made none of the passes before, and counts its tokens anew."""
    (whole, _), (resumed, _) = (drawn_by(foreign, 1, num_passes=2, forward_tokens=seen) for seen in (4_096, 0))
    assert not torch.equal(*whole)
    assert all(map(torch.equal, whole, resumed))
