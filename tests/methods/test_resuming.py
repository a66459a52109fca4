"""A stage that reads text of its own resumes at the text that it would have read next."""

from __future__ import annotations

import copy

from method_helpers import make_loop, same_state

from ctbench.method import Method
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.hooks import LoopHooks


class Reading(Method):
    """Trains on fresh blocks beside the batch, so that it matters which ones come next."""

    def loss(self, stage, batch):
        first, second = stage.backbone(batch).loss, stage.backbone(stage.sample(1)).loss
        return {"lm": first, "more": second}


def test_a_resumed_stage_reads_on_where_it_was(small):
    saved: list[StageCheckpoint] = []

    def trainer():
        return make_loop(Reading(), copy.deepcopy(small.base), small.first, num_steps=20)

    whole, resumed = trainer(), trainer()
    whole.run(LoopHooks(save=lambda progress: saved.append(copy.deepcopy(progress)), save_seconds=0))
    resumed.run(checkpoint=copy.deepcopy(saved[0]))
    assert same_state(resumed.stage.backbone, whole.stage.backbone)
    forgetful = trainer()
    forgetful.run(checkpoint=copy.deepcopy(saved[0]).__class__(**{**vars(saved[0]), "num_extra": 0}))
    assert not same_state(forgetful.stage.backbone, whole.stage.backbone)
