"""From a name to a backbone: Hugging Face ids, local folders, and folders that ctbench wrote itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctbench.backbone.checkpoint import backbone_digest, find_checkpoint
from ctbench.backbone.objective import Objective, choose_objective
from ctbench.backbone.tokenizer import load_saved_tokenizer, num_rows, quiet, read_config, read_tokenizer, require_fit
from ctbench.errors import BadConfig, BadData, CTBenchError, first_line
from ctbench.machine.files import os_errors, read_path

if TYPE_CHECKING:
    from ctbench.backbone.wrapper import Backbone

__all__ = [
    "backbone_digest",
    "find_checkpoint",
    "load_backbone",
    "load_saved",
    "quiet",
    "save_backbone",
]

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
        BadConfig: no such checkpoint, a model of a kind that has no such objective, or one that cannot be used.
        BadData: weights or tokenizer are missing, broken or do not fit each other.
    """
    from ctbench.backbone.wrapper import Backbone

    folder = find_checkpoint(name, revision=revision, online=online)
    if (folder / "backbone.json").is_file():
        saved = load_saved(folder)
        _require_finite(saved.model, name)
        return saved
    digest = backbone_digest(str(folder))
    with quiet():
        config = read_config(folder, name)
        chosen = choose_objective(config, objective, name)
        tokenizer = read_tokenizer(folder, name)
        require_fit(tokenizer, num_rows(config), name)
        model, notes = _load_model(folder, config, chosen, name)
    require_fit(tokenizer, len(model.get_input_embeddings().weight), name)
    _require_finite(model, name)
    about: dict[str, Any] = {
        "tokenizer": tokenizer,
        "objective": chosen,
        "name": _plain_name(name),
        "digest": digest,
        "notes": notes,
    }
    try:
        return _tried(Backbone(model.eval(), **about))
    except CTBenchError:
        raise
    except Exception as error:  # a family that the wrapper does not fit fails in a way of its own
        reason = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
        raise BadConfig(
            f"model '{name}' of the family '{config.model_type}' cannot be used: a first pass over a few tokens fails "
            f"({reason}); choose a model of another family"
        ) from error


def _require_finite(model: Any, name: str) -> None:
    broken = [
        key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        more = f" and {len(broken) - 1} more" if broken[1:] else ""
        raise BadData(
            f"model '{name}' holds weights that are NaN or infinite ({broken[0]}{more}): it was saved after its training "
            "diverged, or in a precision that its values exceed; choose another checkpoint"
        )


def _tried(backbone: Backbone) -> Backbone:
    """Return a backbone after a first pass over two rows of a few tokens: whether it fits the model shows there."""
    import torch

    from ctbench.backbone import Batch

    ids = sorted(backbone.tokenizer.get_vocab().values())[:4] * 4
    length = min(4, backbone.max_length or 4)
    rows = torch.tensor(ids[: 2 * length]).reshape(2, length)
    batch = Batch(input_ids=rows, positions=torch.tensor([0, length]), targets=rows[:, 0])
    with torch.inference_mode():
        output = backbone(batch)
        backbone.features(batch)
    assert output.logits.shape == (2, backbone.vocab_size) and len(output.hidden) == 2
    backbone.forward_tokens = 0
    return backbone


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write config.json, tokenizer.json, weights.safetensors and backbone.json into an existing folder.

    Only backbones as they were loaded or built: modules that a method added are not rebuilt by `load_saved`.

    Raises:
        ValueError: the backbone holds added modules.
        OSError: the disk is full or cannot be written.
    """
    from safetensors.torch import save_file

    if len(backbone.added):
        raise ValueError(f"a backbone with added modules ({', '.join(backbone.added)}) is saved by its state")
    (folder / "config.json").write_text(backbone.model.config.to_json_string(use_diff=True), encoding="utf-8")
    with os_errors():
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
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    from ctbench.backbone.wrapper import Backbone

    try:
        about = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            with no_init_weights():
                model = model_class(about["objective"]).from_config(config)
            model.tie_weights()  # left out together with the initialisation
            tokenizer = load_saved_tokenizer(folder)
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


def _plain_name(name: str) -> str:
    """Return a name without the path that leads to a folder."""
    path = read_path(name)
    return path.resolve().name if path.is_dir() else name


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
            has_other_shapes = "ignore_mismatched_sizes" in str(error)
            reason = "their shapes are not those that config.json asks for" if has_other_shapes else first_line(error)
            raise BadData(f"the weights of model '{name}' cannot be loaded: {reason}") from None
    if model.get_output_embeddings() is None:
        raise BadConfig(f"model '{name}' ({config.model_type}) has no output embedding to predict tokens with")
    missing = sorted(report["missing_keys"])
    inside = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if inside:
        raise BadData(f"model '{name}' lacks weights that its configuration asks for: {', '.join(inside[:3])}")
    return model, (
        f"the checkpoint has no complete LM head; a new one was made from seed {_HEAD_SEED}",
    ) if missing else ()
