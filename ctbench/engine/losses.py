"""Computes the node of held-out losses: those of all domains, or that of general text."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ctbench.backbone import Backbone
from ctbench.data.schema import GENERAL
from ctbench.engine.counts import num_parameters
from ctbench.engine.identity import LossIdentity, MeasuredLM
from ctbench.engine.materials import Materials
from ctbench.engine.node import Spec
from ctbench.engine.records import StoredLoss
from ctbench.engine.stages import resolved, work_of
from ctbench.errors import RunFailed
from ctbench.machine.device import device, isolated
from ctbench.method import returned_backbone
from ctbench.randomness import seed_from
from ctbench.training.effects import added_names, lm_effects, mean_effects
from ctbench.training.finetune import HeldOut, held_out_loss
from ctbench.training.hooks import LoopHooks
from ctbench.training.retention import bytes_per_token

if TYPE_CHECKING:
    from ctbench.engine.compute import Executor


def compute_loss(executor: Executor, spec: Spec, _hooks: LoopHooks) -> None:
    """Compute the held-out losses of an LM into the store: those of all domains, or that of general text."""
    identity, materials = spec.identity, executor.materials
    assert isinstance(identity, LossIdentity)
    started = time.perf_counter()
    measure = _general_loss if identity.domains == (GENERAL,) else _domain_losses
    measured = measure(executor, spec, identity)
    base, _ = materials.base(spec.lookup)
    record = StoredLoss(
        **measured,
        seconds=time.perf_counter() - started,
        parameters=num_parameters(base),
        objective=base.objective,
        notes=tuple(base.notes),
        weights_digest=materials.base_digest(spec.lookup),
        work=work_of(spec),
    )
    with executor.writing(spec, record):
        pass


def _domain_losses(executor: Executor, spec: Spec, identity: LossIdentity) -> dict[str, Any]:
    """Return the held-out losses of all domains, and the effects of what a method added on those of its stage."""
    materials, lookup = executor.materials, spec.lookup
    recipe = resolved(materials.stream(lookup).recipe.pretrain, identity.arithmetic)
    held_out = functools.partial(materials.blocks, lookup, length=recipe.length, held_out=True)
    measured: dict[str, HeldOut] = {}
    effects = []
    with isolated(threads=recipe.threads):
        added = _added(executor, spec, identity.lm) if identity.trained_on else frozenset()
        for name in identity.domains:
            backbone = adapted(executor.materials, spec, identity.lm, name).to(device())
            measured[name] = held_out_loss(backbone, held_out(name), domain=name, recipe=recipe)
            if name in identity.trained_on:
                every, share = identity.domains, recipe.mask_fraction
                found = lm_effects(backbone, name, added, held_out=held_out, domains=every, mask_fraction=share)
                effects.append(found)
    return _stored(measured) | {"effects": mean_effects(effects)}


def _general_loss(executor: Executor, spec: Spec, identity: LossIdentity) -> dict[str, Any]:
    """Return the held-out loss of general text; None where there is too little of it to hold a block out.

    A method that needs the domain of a text is told the last one of the stage.
    """
    materials, lookup = executor.materials, spec.lookup
    recipe = resolved(materials.stream(lookup).recipe.pretrain, identity.arithmetic)
    blocks = materials.blocks(lookup, GENERAL, recipe.length, held_out=True)
    if not len(blocks):
        return {"losses": {GENERAL: None}, "effects": {}, "tokens": 0}
    with isolated(threads=recipe.threads):
        told = identity.trained_on[-1] if identity.trained_on else GENERAL
        backbone = adapted(executor.materials, spec, identity.lm, told).to(device())
        found = held_out_loss(backbone, blocks, domain=GENERAL, recipe=recipe)
        width = bytes_per_token(backbone, blocks, recipe)
    widths = {GENERAL: width} if math.isfinite(width) else {}
    return _stored({GENERAL: found}) | {"effects": {}, "bytes_per_token": widths}


def _stored(measured: Mapping[str, HeldOut]) -> dict[str, Any]:
    """Return what a record holds of losses by name of the text.

    Raises:
        RunFailed: a loss is not finite.
    """
    for name, found in measured.items():
        if not math.isfinite(found.loss):
            raise RunFailed(f"the held-out LM loss of {name} is {found.loss}")
    return {
        "losses": {name: found.loss for name, found in measured.items()},
        "errors": {name: _finite(found.error) for name, found in measured.items()},
        "num_predicted": {name: found.num_predicted for name, found in measured.items()},
        "tokens": sum(found.tokens for found in measured.values()),
        "flops": sum(found.flops for found in measured.values()),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _added(executor: Executor, spec: Spec, lm: MeasuredLM) -> frozenset[str]:
    """Return the names of the parameters that the method adds to the LM."""
    materials, lookup = executor.materials, spec.lookup
    method, stream = materials.method(lookup, lm.method), materials.stream(lookup)
    return added_names(copy.deepcopy(materials.base(lookup)[0]), lambda untouched: method.build(untouched, stream))


def adapted(materials: Materials, spec: Spec, lm: MeasuredLM, domain: str) -> Backbone:
    """Return the LM that a cell fine-tunes."""
    lookup = spec.lookup
    if lm.build_seed is None:
        return copy.deepcopy(materials.base(lookup)[0])
    method, stream = materials.method(lookup, lm.method), materials.stream(lookup)
    backbone, _ = materials.restore(lookup, method, lm.build_seed, spec.parents[0])
    with isolated(threads=1):
        torch.manual_seed(seed_from(lm.build_seed, [domain], "adapt") >> 1)
        return returned_backbone(method.adapt(backbone, stream, domain, lm.stage), method, "adapt")
