from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import RECIPE, finished_stage, make_loop, module_of, naive, same_state, summary, train, train_stream

from ctbench.memory import flatten
from ctbench.method import Method
from ctbench.plugins.find import get_method
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.hooks import LoopHooks

ewc = module_of("ewc")


def only(base, *endings):
    """Return a copy of `base` in which only the parameters with these endings train."""
    backbone = copy.deepcopy(base)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name.endswith(endings))
    return backbone


def largest_move(one, other):
    first, second = one.state(), other.state()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_weight_0_is_naive_bit_for_bit(small):
    method = get_method("ewc", weight=0, num_examples=8)
    mine = train_stream(method, small.base, small.stream, small.blocks)
    sequential = train_stream(naive(), small.base, small.stream, small.blocks)
    for (backbone, memory, record), (wanted, _, other) in zip(mine, sequential, strict=True):
        assert same_state(backbone, wanted)
        assert memory == {}
        assert summary(record) == summary(other)


def test_first_stage_is_naive_and_leaves_plain_memory(small):
    backbone, memory, record = train(get_method("ewc", num_examples=8), small.base, small.first)
    assert same_state(backbone, train(naive(), small.base, small.first)[0])
    names = [name for name, _ in backbone.trainable()]
    assert list(memory["fisher"]) == list(memory["anchor"]) == names
    assert all(torch.equal(memory["anchor"][name], weight) for name, weight in backbone.trainable())
    assert len(flatten(memory)[1]) == 2 * len(names)
    assert ewc.mean_value(memory["fisher"]) == pytest.approx(1.0, rel=1e-5)
    assert record.notes["fisher_scale"] > 0
    assert record.forward_tokens == record.tokens + 8 * RECIPE.length


def test_fisher_of_a_softmax_toy_equals_the_formula():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator).requires_grad_()
    bias = torch.randn(4, generator=generator).requires_grad_()
    inputs, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 3, 1, 1])
    losses = (torch.nn.functional.cross_entropy(weight @ x + bias, y) for x, y in zip(inputs, labels, strict=True))
    fisher = ewc.mean_squares(losses, {"weight": weight, "bias": bias})
    with torch.no_grad():
        errors = (inputs @ weight.T + bias).softmax(-1) - torch.nn.functional.one_hot(labels, 4)
    torch.testing.assert_close(fisher["weight"], (errors[:, :, None] * inputs[:, None, :]).square().mean(0))
    torch.testing.assert_close(fisher["bias"], errors.square().mean(0))


def test_squares_are_taken_per_example_and_not_of_the_batch():
    weight = torch.tensor([0.0], requires_grad=True)
    fisher = ewc.mean_squares((weight * x for x in (torch.tensor(1.0), torch.tensor(-1.0))), {"weight": weight})
    assert fisher["weight"].item() == 1.0  # the batch's gradient is 0


def test_fisher_of_the_lms_output_bias_equals_the_formula(small):
    backbone = only(small.base, "decoder.bias")
    ((name, _),) = backbone.trainable()
    method = get_method("ewc", num_examples=5)
    trained, memory, record = train(method, backbone, small.first)
    stage = finished_stage(trained, small.first)
    squares = []
    for _ in range(5):
        batch = stage.sample(1)
        with torch.no_grad():
            errors = trained.eval()(batch).logits.softmax(-1)
        errors[torch.arange(len(errors)), batch.targets] -= 1.0
        squares.append(errors.mean(0).square())
    wanted = torch.stack(squares).mean(0)
    assert record.notes["fisher_scale"] == pytest.approx(wanted.mean().item(), rel=1e-4)
    torch.testing.assert_close(memory["fisher"][name], wanted / wanted.mean(), rtol=1e-4, atol=1e-6)


def test_penalty_equals_the_formula_and_pulls_back(small):
    trainer = make_loop(get_method("ewc", weight=3.0), small.base, small.first)
    stage, parameters = trainer.stage, dict(trainer.stage.backbone.trainable())
    stage.memory["fisher"] = {name: torch.rand_like(weight) for name, weight in parameters.items()}
    stage.memory["anchor"] = {name: torch.randn_like(weight) for name, weight in parameters.items()}
    term = trainer.method.loss(stage, stage.start_step(0))["ewc"]
    gaps = {name: (weight - stage.memory["anchor"][name]).detach() for name, weight in parameters.items()}
    fisher = stage.memory["fisher"]
    wanted = 1.5 * sum((fisher[name].double() * gaps[name].double().square()).sum() for name in gaps)
    assert term.item() == pytest.approx(wanted.item(), rel=1e-5)
    term.backward()
    for name, weight in parameters.items():
        torch.testing.assert_close(weight.grad, 3.0 * fisher[name] * gaps[name])


def test_penalty_stays_in_float32_under_autocast(small):
    recipe = dataclasses.replace(RECIPE, precision="bf16")
    first, memory, _ = train(get_method("ewc", num_examples=4), small.base, small.first, recipe=recipe)
    trainer = make_loop(get_method("ewc", weight=1.0), first, small.second, memory, recipe=recipe)
    with torch.no_grad():
        for _, weight in trainer.stage.backbone.trainable():
            weight += 1e-4  # lost in bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = trainer.method.loss(trainer.stage, trainer.stage.start_step(0))["ewc"]
    num_weights = sum(values.numel() for values in memory["fisher"].values())
    assert term.dtype == torch.float32
    assert term.item() == pytest.approx(0.5 * num_weights * 1e-8, rel=1e-2)


def test_huge_weight_stays_at_the_anchor(small):
    """The optimiser's steps do not shrink with the loss: what is left is one step of the warm-up and its return."""
    first, memory, _ = train(get_method("ewc", num_examples=4), small.base, small.first)
    memory["fisher"] = {name: torch.ones_like(values) for name, values in memory["fisher"].items()}
    held = train(get_method("ewc", weight=1e6, num_examples=1), first, small.second, memory, num_steps=40)[0]
    free = train(naive(), first, small.second, num_steps=40)[0]
    assert largest_move(free, first) > 10 * RECIPE.lr
    assert largest_move(held, first) < 0.5 * RECIPE.lr


def test_important_weights_move_less(small):
    first, memory, _ = train(get_method("ewc", num_examples=8), small.base, small.first)
    moves = []
    for method in (naive(), get_method("ewc", weight=100.0, num_examples=1)):
        after = train(method, first, small.second, memory, num_steps=15)[0]
        moves.append(
            sum(
                (memory["fisher"][name] * (weight - memory["anchor"][name]).square()).sum().item()
                for name, weight in after.trainable()
            )
        )
    assert moves[1] < moves[0] / 4


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_old_fisher_decays_and_the_anchor_is_the_last(small, decay):
    method: Method = get_method("ewc", decay=decay, num_examples=2)
    backbone = only(small.base, "decoder.bias", "norm.weight")
    first, memory, _ = train(method, backbone, small.first)
    second, later, _ = train(method, first, small.second, memory)
    assert ewc.mean_value(later["fisher"]) == pytest.approx(1.0 + decay, rel=1e-5)
    assert all(torch.equal(later["anchor"][name], weight) for name, weight in second.trainable())
    for name, fisher in later["fisher"].items():
        assert (fisher >= decay * memory["fisher"][name] * 0.999).all()


def test_resumed_second_stage_equals_uninterrupted(small):
    method = get_method("ewc", num_examples=2)
    backbone, memory, _ = train(method, small.base, small.first)
    saved: list[StageCheckpoint] = []
    whole = make_loop(method, backbone, small.second, memory, num_steps=12)
    whole.run(LoopHooks(save=lambda progress: saved.append(copy.deepcopy(progress)), save_seconds=0))
    resumed = make_loop(method, backbone, small.second, num_steps=12)
    resumed.run(checkpoint=saved[0])
    assert same_state(resumed.stage.backbone, whole.stage.backbone)
    first, second = (flatten(trainer.stage.memory)[1] for trainer in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
