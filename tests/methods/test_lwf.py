from __future__ import annotations

import pytest
import torch
from method_helpers import make_loop, module_of, naive, same_state, summary, train, train_stream

from ctbench.plugins.find import get_method

divergence_from = module_of("lwf").divergence_from


def test_weight_0_is_naive_bit_for_bit(small):
    lwf = train_stream(get_method("lwf", weight=0), small.base, small.stream, small.blocks)
    sequential = train_stream(naive(), small.base, small.stream, small.blocks)
    for (backbone, memory, record), (wanted, _, other) in zip(lwf, sequential, strict=True):
        assert same_state(backbone, wanted)
        assert memory == {}
        assert summary(record) == summary(other)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_equals_its_formula(temperature):
    teacher, student = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    wanted = temperature**2 * (p * (p / q).log()).sum(-1).mean()
    assert divergence_from(teacher, student, temperature=temperature).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_divergence_of_equal_outputs_has_no_gradient():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    divergence = divergence_from(logits.detach().clone(), logits, temperature=2.0)
    divergence.backward()
    assert divergence.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


def test_gradient_keeps_its_size_at_high_temperatures():
    """For a large t the divergence tends to half the mean squared distance of the centred logits over V."""
    teacher, student = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    gap = (teacher - teacher.mean(-1, keepdim=True)) - (student - student.mean(-1, keepdim=True))
    limit = gap.square().sum(-1).mean().item() / (2 * 7)
    assert divergence_from(teacher, student, temperature=100.0).item() == pytest.approx(limit, rel=0.05)


def test_first_update_starts_at_the_teacher_and_costs_one_pass_each(small):
    trainer = make_loop(get_method("lwf"), small.base, small.first)
    stage = trainer.stage
    stage.backbone.train()
    terms = trainer.method.loss(stage, stage.start_step(0))
    assert terms["kd"].item() == pytest.approx(0.0, abs=1e-5)
    places = stage.blocks.numel()
    assert stage.backbone.forward_tokens == stage.teacher.forward_tokens == places


def test_large_weight_stays_nearer_to_the_teachers_outputs(small):
    gaps = []
    for method in (naive(), get_method("lwf", weight=100)):
        backbone, _, _ = train(method, small.base, small.first, num_steps=12)
        batch = make_loop(method, small.base, small.first).stage.start_step(0)
        with torch.no_grad():
            logits = [model.eval()(batch).logits for model in (small.base, backbone)]
        gaps.append(divergence_from(*logits, temperature=1.0).item())
    assert gaps[1] < gaps[0] / 2


def test_teacher_does_not_move(small):
    trainer = make_loop(get_method("lwf"), small.base, small.first)
    trainer.run()
    assert same_state(trainer.stage.teacher, small.base)
    assert not same_state(trainer.stage.backbone, small.base)
