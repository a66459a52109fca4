from __future__ import annotations

import pytest
import torch
from checkpoints import FAMILY_NAMES

from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.linear import linear_maps


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_linear_maps_are_all_of_the_layers_and_none_of_the_heads(family, checkpoint):
    backbone = load_backbone(str(checkpoint(family)))
    maps = linear_maps(backbone)
    inside = {id(weight) for layer in backbone.layers for weight in layer.parameters() if weight.dim() == 2}
    assert {id(each.module.weight) for each in maps} == inside
    parameters = dict(backbone.named_parameters())
    assert all(parameters[each.weight_name] is each.module.weight for each in maps)
    assert id(backbone.model.get_output_embeddings().weight) not in inside


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_oriented_weight_maps_inputs_to_outputs(family, checkpoint):
    for each in linear_maps(load_backbone(str(checkpoint(family)))):
        num_out, num_in = each.shape
        x = torch.randn(3, num_in)
        assert each.is_transposed == (family == "gpt2")
        torch.testing.assert_close(each.module(x), x @ each.oriented(each.module.weight).T + each.module.bias)
        assert each.module(x).shape == (3, num_out)


def test_layers_without_linear_maps_are_refused(checkpoint):
    backbone = load_backbone(str(checkpoint("roberta")))
    for layer in backbone.layers:
        layer._modules.clear()
    with pytest.raises(BadConfig, match=r"\(roberta\) hold no linear map"):
        linear_maps(backbone)
