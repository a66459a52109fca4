"""The table of module names names modules that are there."""

from __future__ import annotations

import pytest
from checkpoints import FAMILY_NAMES

from ctbench.backbone.families import FAMILIES, ROLES, find_family, require_family
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig


def test_table_holds_the_families_of_the_tests():
    assert set(FAMILIES) == set(FAMILY_NAMES)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_every_part_is_found_in_every_layer(checkpoint, model_type):
    backbone = load_backbone(str(checkpoint(model_type)))
    family = find_family(model_type)
    assert backbone.family is family
    for role in ROLES:
        parts = backbone.parts(role)
        assert len(parts) == backbone.num_layers * len(family.paths(role))
        assert all(module.weight.dim() == 2 for _, module in parts)
        assert len({name for name, _ in parts}) == len(parts)
        assert all(dict(backbone.named_modules())[name] is module for name, module in parts)


def test_attention_and_feed_forward_outputs_are_told_apart(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    assert [module.in_features for _, module in backbone.parts("attention_out")] == [32, 32]
    assert [module.in_features for _, module in backbone.parts("ffn_out")] == [48, 48]


def test_unknown_family_is_refused_with_what_is_known():
    assert find_family("albert") is None
    with pytest.raises(BadConfig, match=r"unit importance .* 'albert'.* known: bert, deberta-v2") as error:
        require_family("albert", purpose="unit importance")
    assert "\n" not in str(error.value)
