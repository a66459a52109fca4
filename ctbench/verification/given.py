"""LMs that `ctbench export` wrote, in place of the stages that made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctbench.backbone.loading import load_backbone
from ctbench.engine.counts import num_parameters
from ctbench.engine.expand import RunGraph
from ctbench.engine.identity import StageIdentity
from ctbench.engine.materials import Materials, state_digest
from ctbench.engine.records import StoredStage
from ctbench.engine.stages import work_of
from ctbench.engine.store import Store
from ctbench.engine.tensors import save_changed, save_tree
from ctbench.errors import BadConfig
from ctbench.exporting.write import ABOUT
from ctbench.machine.files import read_path
from ctbench.plans import BASE
from ctbench.results.schema import Result
from ctbench.training.log import TrainingRecord


def find_given(folder: str | Path, result: Result) -> dict[int, Path]:
    """Return the exported LMs of a result by the number of their stage, 0 for the untouched LM.

    Args:
        folder: an export, or a folder of exports.
        result: whose LMs are wanted.

    Raises:
        BadConfig: there is none, or a context was baked into one.
    """
    place = read_path(folder)
    if not place.is_dir():
        raise BadConfig(f"no folder '{folder}'; --given takes one that `ctbench export` wrote, or a folder of them")
    found = {}
    for path in [place / ABOUT, *sorted(place.glob(f"*/{ABOUT}"))]:
        about = _read(path)
        if about is None or about.get("result") != result.key:
            continue
        if about.get("baked"):
            raise BadConfig(
                f"'{path.parent.name}' has a context baked in, and cells were measured with one for each text; "
                "leave --given out"
            )
        found[_stage(about, result)] = path.parent
    if not found:
        raise BadConfig(f"'{folder}' holds no LM that `ctbench export` wrote of the result {result.key[:16]}")
    return found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) else None


def _stage(about: dict[str, Any], result: Result) -> int:
    stage = about.get("stage")
    if not isinstance(stage, int) or not BASE <= stage <= len(result.plan.stages):
        raise BadConfig(f"{ABOUT} of an export names stage {stage!r}, which the result does not have")
    return stage


def plant(run: RunGraph, stage: int, folder: Path, store: Store, materials: Materials) -> None:
    """Put an exported LM into a store as what rows measure of its stage; the base must be there.

    Args:
        run: the run.
        stage: number of the stage.
        folder: the export.
        store: where it goes.
        materials: of this store.

    Raises:
        BadConfig: the LM has other parts than its export, so cells would start from another LM.
        BadData: the export is damaged.
    """
    node = run.lms[stage - 1]
    identity, lookup = node.identity, node.lookup
    assert isinstance(identity, StageIdentity)
    method = materials.method(lookup, identity.method)
    backbone, _ = materials.restore(lookup, method, identity.build_seed, None)
    base, own, given = materials.base(lookup), backbone.state(), load_backbone(str(folder)).state()
    if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in given.items()}:
        raise BadConfig(
            f"method {identity.method.name} adds parts to the LM that its export in '{folder.name}' has merged or lacks, so "
            "cells would start from another LM; leave --given out"
        )
    digest = state_digest(given)
    record = StoredStage(
        training=_untrained(identity.domains),
        weights_digest=digest,
        changed=digest != state_digest(own),
        added_parameters=num_parameters(backbone) - num_parameters(base[0]),
        stored_bytes=0,
        work=work_of(node.spec()),
    )
    about = {"stream": run.stream.name, "method": identity.method.name, "title": node.title}
    with store.writing(node.key, record, about=about) as written:
        save_changed(written, "weights", given, base[1])
        save_tree(written, "memory", {})


def _untrained(domains: tuple[str, ...]) -> TrainingRecord:
    """Return the record of a stage whose training nobody saw."""
    zeros: dict[str, Any] = dict.fromkeys(
        ("tokens", "forward_tokens", "peak_memory_bytes", "trained_parameters", "stored_bytes"), 0
    )
    return TrainingRecord(domains=domains, steps=(), losses={}, notes={}, seconds=0.0, cpu_seconds=0.0, **zeros)
