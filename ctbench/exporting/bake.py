"""From the LM of a row to an ordinary Hugging Face model that computes the same, or the reason why there is none."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import nn

from ctbench.backbone import Backbone, Batch, Prompt
from ctbench.backbone.loading import model_class
from ctbench.backbone.state import copy_into, unique_tensors
from ctbench.backbone.tokenizer import quiet
from ctbench.backbone.wordmap import Condition, WordMap
from ctbench.errors import BadConfig
from ctbench.mixer import Mixer


def is_conditional(backbone: Backbone) -> bool:
    """Return whether the LM depends on what its texts are about."""
    return isinstance(_prompter(backbone), Mixer)


def condition_of(backbone: Backbone, text: Batch | None, probe: Batch) -> Condition | None:
    """Return what the LM's passes are conditioned on.

    Args:
        backbone: the LM.
        text: the text of the one context, [1, T]; only for a conditional LM.
        probe: some text, for a prompter that does not depend on it.
    """
    prompter = _prompter(backbone)
    if prompter is None:
        return None
    if isinstance(prompter, Mixer):
        assert text is not None
        return prompter.told(text)
    condition: Condition = prompter(backbone, probe)
    return condition


def refuse_prompt(condition: Condition | None) -> None:
    """Refuse an LM that is conditioned by a prompt.

    Raises:
        BadConfig: it is.
    """
    if isinstance(condition, Prompt):
        raise BadConfig(
            "a prompt stands in front of every text, at positions that it shares with the text; "
            "no format of a checkpoint (PEFT's included) holds that exactly"
        )


def bake(backbone: Backbone, condition: Condition | None) -> Backbone:
    """Turn a map of the word embeddings and peft's layers into ordinary weights; the backbone is used up.

    Args:
        backbone: the LM, on the CPU.
        condition: from `condition_of`.

    Raises:
        BadConfig: the LM is conditioned on what weights cannot hold.
    """
    refuse_prompt(condition)
    with torch.no_grad():
        _merge_layers(backbone)
        if isinstance(condition, WordMap):
            if condition.shares.dim() != 1:
                raise BadConfig("the map of the word embeddings differs from text to text; only one can be baked in")
            _bake_map(backbone, condition)
            assert backbone.prompter is not None
            del backbone.added[backbone.prompter]
            backbone.prompter = None
    return backbone


def plain_model(backbone: Backbone) -> Any:
    """Return a fresh Hugging Face model with the weights of a baked LM, in float32.

    Raises:
        BadConfig: the LM has weights for which the model has no place.
    """
    from transformers.initialization import no_init_weights

    config = copy.deepcopy(backbone.model.config)
    words, output = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    config.tie_word_embeddings = words.weight is output.weight
    config.dtype = torch.float32
    with quiet(), no_init_weights():
        model = model_class(backbone.objective).from_config(config)
        model.tie_weights()
    state, own = backbone.state_dict(), unique_tensors(model)
    state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if added := sorted(state.keys() - model.state_dict().keys()):
        raise BadConfig(
            f"the method keeps modules of its own in the LM ({_shown(added)}), for which a Hugging Face checkpoint of the "
            f"kind '{config.model_type}' has no place"
        )
    copy_into(own, {name: tensor for name, tensor in state.items() if name in own}, backbone.name)
    if backbone.objective == "clm" and backbone.model.generation_config is not None:
        model.generation_config = copy.deepcopy(backbone.model.generation_config)
    return model.eval()


def _prompter(backbone: Backbone) -> nn.Module | None:
    return None if backbone.prompter is None else backbone.added[backbone.prompter]


def _bake_map(backbone: Backbone, word_map: WordMap) -> None:
    words, output = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    enter, leave = word_map.baked(words.weight), word_map.baked(output.weight, leaves=True)
    if words.weight is output.weight and torch.equal(enter, leave):
        words.weight.copy_(enter)
    else:  # tied embeddings of which one place alone is mapped are tied no more
        words.weight, output.weight = nn.Parameter(enter), nn.Parameter(leave)


def _merge_layers(backbone: Backbone) -> None:
    """Merge layers of peft into the weights that they change."""
    if "peft" not in sys.modules:  # slow to import, and whoever added such a layer did
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(backbone.named_modules()):
        if not isinstance(module, BaseTunerLayer):
            continue
        try:
            module.merge()
        except Exception as error:  # some kinds of layers cannot be merged, and say it in ways of their own
            raise BadConfig(f"peft's layer {name.removeprefix('model.')} cannot be merged ({error})") from error
        backbone.replace(name, module.get_base_layer())


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
