"""What a classifier reads of a text."""

from __future__ import annotations

import pytest
import torch
from checkpoints import make_batch

from ctbench.backbone.loading import load_backbone
from ctbench.data.stream import FinetuneRecipe
from ctbench.training.solvers import Classifier, pool

FEATURES = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [50.0, 70.0]], [[2.0, 2.0], [4.0, 6.0], [6.0, 10.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [("mean", [[2.0, 2.0], [4.0, 6.0]]), ("first", [[1.0, 0.0], [2.0, 2.0]]), ("last", [[3.0, 4.0], [6.0, 10.0]])],
)
def test_pooling_reads_real_tokens_only(pooling, wanted):
    assert pool(FEATURES, MASK, pooling).tolist() == wanted


@pytest.mark.parametrize(("model_type", "wanted"), [("bert", "mean"), ("llama", "last")])
def test_pooling_suits_the_family_unless_the_recipe_says_otherwise(checkpoint, model_type, wanted):
    backbone = load_backbone(str(checkpoint(model_type)))
    torch.manual_seed(0)
    auto = Classifier(backbone, 3, FinetuneRecipe()).eval()
    assert auto.pooling == wanted
    batch = make_batch(is_padded=True)
    scores = {"auto": auto(batch)}
    for pooling in ("mean", "first", "last"):
        other = Classifier(backbone, 3, FinetuneRecipe(pooling=pooling)).eval()
        other.output.load_state_dict(auto.output.state_dict())
        scores[pooling] = other(batch)
    assert torch.equal(scores["auto"], scores[wanted])
    assert len({tuple(score.flatten().tolist()) for score in scores.values()}) == 3
