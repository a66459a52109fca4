"""Prompts of keys and values: what projections make of hidden prompts, given as keys and values, gives the same LM."""

from __future__ import annotations

import pytest
import torch

from ctbench.backbone.batch import Batch, Prompt
from ctbench.backbone.families import FAMILIES
from ctbench.backbone.keyprompt import key_width
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig

P = 3


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"gpt_neox", "deberta-v2"}))
def test_keys_and_values_of_a_hidden_prompt_stand_for_it(family, checkpoint):
    backbone = load_backbone(str(checkpoint(family, 0.0))).eval()
    generator = torch.Generator().manual_seed(0)
    batch = Batch(input_ids=torch.randint(5, 90, (2, 7), generator=generator))
    hidden = Prompt(torch.randn(2, backbone.num_layers, P, backbone.hidden_size, generator=generator), deep=True)
    width, seen, handles = key_width(backbone), [], []
    for _, module in backbone.parts("attention_in"):
        handles.append(module.register_forward_hook(lambda _m, _a, output: seen.append(output[:, :P].detach())))
    with torch.no_grad():
        wanted = backbone(batch, prompt=hidden).hidden
        for handle in handles:
            handle.remove()
        per_layer = len(seen) // backbone.num_layers
        layers = [seen[start : start + per_layer] for start in range(0, len(seen), per_layer)]
        pairs = [torch.cat(layer[1:], -1) if per_layer == 3 else layer[0][..., -2 * width :] for layer in layers]
        keyed = Prompt(torch.stack(pairs, 1), deep=True, keys=True)
        torch.testing.assert_close(backbone(batch, prompt=keyed).hidden, wanted)
        other = Prompt(keyed.vectors + 0.5, deep=True, keys=True)
        assert (backbone(batch, prompt=other).hidden - wanted).abs().max() > 1e-4
        torch.testing.assert_close(backbone(batch, prompt=Prompt(keyed.vectors[0], True, True)).hidden[0], wanted[0])
    assert not any(module._forward_hooks for _, module in backbone.parts("attention_in"))


@pytest.mark.parametrize("family", ["gpt_neox", "deberta-v2"])
def test_projections_of_other_things_too_are_refused(family, checkpoint):
    with pytest.raises(BadConfig, match="use a prompt of hidden states"):
        key_width(load_backbone(str(checkpoint(family, 0.0))))
