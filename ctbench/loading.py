"""From a name to a backbone: Hugging Face ids, local folders, and folders that ctbench wrote itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctbench.checkpoint import USUAL_TOKENS, backbone_digest, find_checkpoint
from ctbench.errors import BadConfig, BadData

if TYPE_CHECKING:
    from ctbench.backbone import Backbone

__all__ = ["backbone_digest", "find_checkpoint", "load_backbone", "load_saved", "quiet", "save_backbone"]

Objective = Literal["mlm", "clm"]

_HEAD_SEED = 20231013


def load_backbone(
    name: str, *, revision: str | None = None, online: bool = False, objective: Literal["auto", "mlm", "clm"] = "auto"
) -> Backbone:
    """Load a checkpoint, in float32 and in evaluation mode, without running code that comes with it.

    A checkpoint without an LM head (a sentence encoder) gets a new one from a fixed seed, and `notes` says so.

    Args:
        name: a folder, or a Hugging Face id like "org/model" or "org/model@revision".
        revision: the same as "@revision".
        online: whether the network may be used.
        objective: "mlm" or "clm" insists; "auto" follows the checkpoint.

    Raises:
        BadConfig: no such checkpoint, or a model of a kind that has no such objective.
        BadData: weights or tokenizer are missing or broken.
    """
    from ctbench.backbone import Backbone

    folder = find_checkpoint(name, revision=revision, online=online)
    if (folder / "backbone.json").is_file():
        return load_saved(folder)
    digest = backbone_digest(str(folder))
    with quiet():
        config = _load_config(folder, name)
        chosen = _choose_objective(config, objective, name)
        tokenizer = _load_tokenizer(folder, name)
        model, notes = _load_model(folder, config, chosen, name)
    return Backbone(
        model.eval(), tokenizer=tokenizer, objective=chosen, name=_plain_name(name), digest=digest, notes=notes
    )


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write config.json, tokenizer.json, weights.safetensors and backbone.json into an existing folder.

    Only backbones as they were loaded or built: modules that a method added are not rebuilt by `load_saved`.

    Raises:
        ValueError: the backbone holds added modules.
    """
    from safetensors.torch import save_file

    if len(backbone.added):
        raise ValueError(f"a backbone with added modules ({', '.join(backbone.added)}) is saved by its state")
    (folder / "config.json").write_text(backbone.model.config.to_json_string(use_diff=True), encoding="utf-8")
    backbone.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    save_file(backbone.state(), folder / "weights.safetensors")
    about = {
        "name": backbone.name,
        "objective": backbone.objective,
        "notes": list(backbone.notes),
        "special_tokens": {
            name: value
            for name in ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
            if (value := getattr(backbone.tokenizer, name)) is not None
        },
    }
    (folder / "backbone.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def load_saved(folder: Path) -> Backbone:
    """Load what `save_backbone` wrote: no weight is initialised first, so it takes milliseconds.

    Raises:
        BadData: a file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, PreTrainedTokenizerFast
    from transformers.initialization import no_init_weights

    from ctbench.backbone import Backbone

    try:
        about = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
        tokenizer_file = str(folder / "tokenizer.json")
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            with no_init_weights():
                model = model_class(about["objective"]).from_config(config)
            model.tie_weights()  # left out together with the initialisation
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, **about["special_tokens"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadData(f"backbone folder '{folder.name}' is broken ({error}); remove it and run again") from None
    backbone = Backbone(
        model.eval(),
        tokenizer=tokenizer,
        objective=about["objective"],
        name=about["name"],
        digest=backbone_digest(str(folder)),
        notes=tuple(about["notes"]),
    )
    backbone.load_state(weights)
    return backbone


def model_class(objective: Objective) -> Any:
    """Return transformers' automatic class for an objective."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    return AutoModelForMaskedLM if objective == "mlm" else AutoModelForCausalLM


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load reports and progress bars off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _plain_name(name: str) -> str:
    """Return a name without the path that leads to a folder."""
    path = Path(name).expanduser()
    return path.resolve().name if path.is_dir() else name


def _load_config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadConfig(f"the configuration of model '{name}' cannot be used: {reason}") from None


def _choose_objective(config: Any, wanted: str, name: str) -> Objective:
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


def _load_tokenizer(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if (folder / "tokenizer.json").is_file():
            # AutoTokenizer rebuilds some families' tokenizers (qwen2) and then gives other ids than the file says.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = str(error).strip().splitlines()[0]
        raise BadData(f"the tokenizer of model '{name}' cannot be read: {reason}; it needs a tokenizer.json") from None
    vocabulary = tokenizer.get_vocab()
    for attribute, usual in USUAL_TOKENS.items():
        known = [token for token in usual if token in vocabulary]
        if getattr(tokenizer, attribute) is None and known:
            setattr(tokenizer, attribute, known[0])
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is always masked out, so any token serves
    return tokenizer


def _load_model(folder: Path, config: Any, objective: Objective, name: str) -> tuple[Any, tuple[str, ...]]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_HEAD_SEED)
        try:
            model, report = model_class(objective).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except Exception as error:  # safetensors and torch raise errors of their own kinds
            reason = str(error).strip().splitlines()[0]
            raise BadData(f"the weights of model '{name}' cannot be loaded: {reason}") from None
    if model.get_output_embeddings() is None:
        raise BadConfig(f"model '{name}' ({config.model_type}) has no output embedding to predict tokens with")
    missing = sorted(report["missing_keys"])
    if report["mismatched_keys"]:
        raise BadData(
            f"weights of model '{name}' have other shapes than its configuration: {report['mismatched_keys']}"
        )
    inside = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if inside:
        raise BadData(f"model '{name}' lacks weights that its configuration asks for: {', '.join(inside[:3])}")
    return model, (
        f"the checkpoint has no complete LM head; a new one was made from seed {_HEAD_SEED}",
    ) if missing else ()
