"""Whether a model is an encoder or a decoder, found from its configuration alone."""

from __future__ import annotations

import json
from typing import Any, Literal

from ctbench.backbone.checkpoint import MADE, find_checkpoint
from ctbench.backbone.tokenizer import quiet, read_config
from ctbench.errors import BadConfig, BadData, first_line

Objective = Literal["mlm", "clm"]


def objective_of(name: str, wanted: str = "auto", *, online: bool = False) -> Objective:
    """Return the objective of a model: "mlm" of an encoder, "clm" of a decoder.

    Args:
        name: an embedded model, a Hugging Face id or a folder.
        wanted: "mlm" or "clm" insists.
        online: whether the network may be used.

    Raises:
        BadConfig: no such checkpoint, or one without this objective.
        BadData: a folder that ctbench wrote is broken.

    Examples:
        >>> objective_of("tiny"), objective_of("tiny-causal")
        ('mlm', 'clm')
    """
    if name in MADE:
        return MADE[name][0]
    folder = find_checkpoint(name, online=online)
    if (folder / "backbone.json").is_file():
        try:
            found: Objective = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))["objective"]
        except (OSError, ValueError, KeyError) as error:
            raise BadData(f"backbone folder '{folder.name}' is broken ({first_line(error)}); remove it") from None
        return found
    with quiet():
        return choose_objective(read_config(folder, name), wanted, name)


def choose_objective(config: Any, wanted: str, name: str) -> Objective:
    """Return the objective of a configuration; raises BadConfig if it has none, or not the wanted one."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    is_masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if is_masked and is_causal:  # bert can be both; a decoder says so
        is_causal = bool(getattr(config, "is_decoder", False))
        is_masked = not is_causal
    if not (is_masked or is_causal):
        raise BadConfig(f"model '{name}' ({config.model_type}) has neither a masked nor a causal LM; choose another")
    found: Objective = "mlm" if is_masked else "clm"
    if wanted not in ("auto", found):
        raise BadConfig(f"objective '{wanted}' does not fit model '{name}' ({config.model_type}): use '{found}'")
    return found
