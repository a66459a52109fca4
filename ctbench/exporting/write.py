"""Write the LM of a row as a Hugging Face checkpoint, and compare what was written with where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.loading import load_backbone
from ctbench.backbone.tokenizer import quiet
from ctbench.backbone.wordmap import Condition
from ctbench.errors import BadConfig, BadPlugin, CTBenchError, first_line, one_line, unwritable
from ctbench.exporting.bake import bake, condition_of, plain_model
from ctbench.exporting.card import model_card
from ctbench.exporting.source import Request, RowLM, cannot_be_exported, probe_of, read_row
from ctbench.machine.device import isolated
from ctbench.machine.files import os_errors, read_path, whole_folder
from ctbench.results.files import OTHER_FOLDER, check_place

LOADERS: Final = {"mlm": "AutoModelForMaskedLM", "clm": "AutoModelForCausalLM"}
ABOUT: Final = "ctbench.json"
"""File of an export that says which LM it is: key of the result, row, stage, and whether a context was baked in."""
TOLERANCE: Final = 1e-3
"""Largest difference of a logit, in standard deviations of all logits, between an LM and its export."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A checkpoint that was written.

    Args:
        folder: its folder.
        architecture: transformers' class of the model; `loader`: the automatic class that loads it.
        row: the row of the result; `context`: what was chosen for it, None if nothing was to be chosen.
        parameters: number of parameters.
    """

    folder: Path
    architecture: str
    loader: str
    row: int
    context: str | None
    parameters: int


def export(request: Request, output: str | Path) -> Exported:
    """Write a checkpoint with its tokenizer and a model card into a new folder, complete or not at all.

    Raises:
        CTBenchError: see `read_row`; or the LM cannot be held by a checkpoint, and why; or the folder is in use.
    """
    folder = read_path(output)
    check_output_folder(folder)
    row = read_row(request)
    tokenizer, objective = row.backbone.tokenizer, row.backbone.objective
    try:
        model, probe, wanted = make_plain(row)
    except BadConfig as error:
        raise cannot_be_exported(request.result, row.row, error) from error
    found = Exported(
        folder=folder,
        architecture=type(model).__name__,
        loader=LOADERS[objective],
        row=row.row,
        context=row.context,
        parameters=model.num_parameters(),
    )
    try:
        with whole_folder(folder) as scratch, quiet():
            with os_errors():
                model.save_pretrained(scratch)
                tokenizer.save_pretrained(scratch)
            card = model_card(request.result, row, architecture=found.architecture, loader=found.loader)
            (scratch / "README.md").write_text(card, encoding="utf-8")
            about = {"result": request.result.key, "row": row.row, "stage": row.stage, "baked": row.text is not None}
            (scratch / ABOUT).write_text(json.dumps(about), encoding="utf-8")
            compare_with(load_backbone(str(scratch)), probe, wanted)
    except OSError as error:
        raise BadConfig(unwritable(f"folder '{folder}'", error, OTHER_FOLDER)) from error
    return found


def make_plain(row: RowLM) -> tuple[Any, Batch, Tensor]:
    """Return the LM of a row as a Hugging Face model, with some text and the logits that the LM gives for it.

    Raises:
        CTBenchError: weights cannot hold the LM, and why.
    """
    probe = probe_of(row.backbone)
    condition = condition_of(row.backbone, row.text, probe)
    wanted = _logits(row.backbone, probe, condition)
    return plain_model(bake(_by_method(row), condition)), probe, wanted


def compare_with(exported: Backbone, probe: Batch, wanted: Tensor) -> None:
    """Refuse an exported LM that computes something else than the LM that it comes from.

    Args:
        exported: as it was loaded from its folder.
        probe: from `make_plain`, as `wanted`.
        wanted: the logits.

    Raises:
        BadConfig: it does.
    """
    found = _logits(exported, probe, None)
    difference = float((found - wanted).abs().max() / wanted.std().clamp(min=1e-12))
    if not difference <= TOLERANCE:
        raise BadConfig(
            "the method changes the LM in a way that weights do not hold (a hook, or modules outside of its state): "
            f"outputs of what was exported differ by {difference:.2g} standard deviations; nothing was written"
        )


def check_output_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, or holds something.

    Raises:
        BadConfig: it does.
    """
    check_place(folder.parent, what=f"folder '{folder}'", otherwise=OTHER_FOLDER)
    if folder.exists() and not folder.is_dir():
        raise BadConfig(f"'{one_line(folder)}' is a file; name a new folder with --output")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadConfig(f"folder '{one_line(folder)}' is not empty; name a new one with --output")


def _by_method(row: RowLM) -> Backbone:
    if row.method is None:
        return row.backbone
    try:
        return row.method.bake(row.backbone, row.text)
    except CTBenchError:
        raise
    except Exception as error:  # a method may be third-party code
        raise BadPlugin(f"bake of the method failed: {type(error).__name__}: {first_line(error)}") from error


def _logits(backbone: Backbone, probe: Batch, condition: Condition | None) -> Tensor:
    with torch.inference_mode(), isolated(threads=1):
        logits = backbone.eval()(probe, prompt=condition).logits
    assert isinstance(logits, Tensor)
    return logits
