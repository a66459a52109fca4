"""A method may let the optimiser begin anew; nothing else of a stage changes by it."""

from __future__ import annotations

import copy

import pytest
import torch
from method_helpers import make_base, make_blocks, make_loop, make_stream, same_state

from ctbench.method import Method, hyper
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.hooks import LoopHooks


class Forgets(Method):
    """Forgets at the end of every `interval` updates; 0 never does."""

    interval: int = hyper(1, low=0)

    def after_step(self, stage):
        if self.interval and (stage.step + 1) % self.interval == 0:
            stage.forget_moments()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forgets")
    stream = make_stream(folder)
    base = make_base(stream)
    return base, {stream.names[0]: make_blocks(stream, base, folder)[stream.names[0]]}


def test_without_moments_every_weight_moves_by_the_learning_rate(place):
    """The first update of Adam is the sign of the gradient, however large it is."""
    for interval, is_sign in ((1, True), (0, False)):
        loop = make_loop(Forgets(interval=interval), *place)
        loop.stage.backbone.train()
        for step in range(3):
            before = loop.stage.backbone.state()
            loop._update(step)
        lr = loop.optimizer.param_groups[0]["lr"]
        after = loop.stage.backbone.state()
        moves = torch.cat([(after[name] - before[name]).abs().flatten() for name in after])
        moves = moves[moves > 0.01 * lr]
        assert len(moves) > 1000
        assert (bool((moves < 1.01 * lr).all()) and moves.median().item() == pytest.approx(lr, rel=0.02)) == is_sign


def test_a_stage_resumes_bit_for_bit_after_the_optimiser_began_anew(place):
    saved: list[StageCheckpoint] = []

    def loop():
        return make_loop(Forgets(interval=10), *place, num_steps=14)

    whole, resumed = loop(), loop()
    whole.run(LoopHooks(save=lambda progress: saved.append(copy.deepcopy(progress)), save_seconds=0))
    assert saved[0].step == 10
    assert saved[0].optimizer == {}
    resumed.run(checkpoint=saved[0])
    assert same_state(resumed.stage.backbone, whole.stage.backbone)
