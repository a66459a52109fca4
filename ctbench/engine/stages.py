"""Computes the node of a stage: whole, its trunk, its branch, or its ending after another method's stage."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from ctbench.data.schema import GENERAL
from ctbench.data.settings import PretrainRecipe
from ctbench.engine.counts import UNKNOWN_SHARE, num_parameters, stored_bytes, unknown_share
from ctbench.engine.identity import Arithmetic, StageIdentity
from ctbench.engine.materials import state_digest
from ctbench.engine.node import Spec
from ctbench.engine.probing import probes_of
from ctbench.engine.records import StoredStage, Work
from ctbench.engine.resume import save_branching
from ctbench.engine.tensors import save_changed, save_tensors, save_tree
from ctbench.errors import BadPlugin
from ctbench.machine.device import device, device_name
from ctbench.method import Method
from ctbench.stage import StageInputs
from ctbench.training.hooks import LoopHooks
from ctbench.training.log import TrainingRecord
from ctbench.training.pretrain import StageLoop
from ctbench.training.schedules import START

if TYPE_CHECKING:
    from ctbench.engine.compute import Executor


def compute_stage(executor: Executor, spec: Spec, hooks: LoopHooks) -> None:
    """Compute a stage, its trunk, its branch or its ending, with all ranks, into the store."""
    identity, materials, lookup = spec.identity, executor.materials, spec.lookup
    assert isinstance(identity, StageIdentity)
    executor.call_ranks(spec)
    method = materials.method(lookup, identity.method)
    recipe = resolved(materials.stream(lookup).recipe.pretrain, identity.arithmetic)
    parent, source = _sources(spec, identity)
    backbone, memory = materials.restore(lookup, method, identity.build_seed, parent)
    before = state_digest(backbone.state())
    inputs = StageInputs(
        backbone=backbone.to(device()),
        memory=memory,
        blocks={name: materials.blocks(lookup, name, recipe.length) for name in identity.domains},
        recipe=recipe,
        num_steps=identity.num_steps,
        seed=identity.seed,
        general=None if identity.general is None else materials.blocks(lookup, GENERAL, recipe.length),
        load_teacher=lambda: materials.restore(lookup, method, identity.build_seed, parent)[0],
        ranks=executor.ranks,
    )
    loop = _loop(executor, spec, method, inputs, parent)
    if source is None:
        training = executor.train(loop, spec, hooks)
    elif identity.is_ending:
        training = loop.run(made=materials.made(lookup, source, carries=recipe.carry_optimizer))
    else:
        training = executor.train(loop, spec, hooks, start=materials.branching(lookup, source))
    if not executor.ranks.is_first:
        return
    _write(executor, spec, loop, training, before=before)


def _write(executor: Executor, spec: Spec, loop: StageLoop, training: TrainingRecord, *, before: str) -> None:
    """Write the node of a finished loop; `before` is the digest of the weights at its start."""
    backbone, base = loop.stage.backbone, executor.materials.base(spec.lookup)
    state = backbone.state()
    after = state_digest(state)
    identity = spec.identity
    assert isinstance(identity, StageIdentity)
    if identity.is_ending:
        _require_same_weights(executor, identity, spec.parents[-1], after)
    record = StoredStage(
        training=training,
        weights_digest=after,
        changed=after != before,
        added_parameters=num_parameters(backbone) - num_parameters(base[0]),
        stored_bytes=stored_bytes(backbone, base[0], loop.stage.memory),
        work=work_of(spec),
    )
    with executor.writing(spec, record) as folder:
        save_changed(folder, "weights", state, base[1])
        save_tree(folder, "memory", loop.stage.memory)
        if loop.branching is not None:
            save_branching(folder, loop.branching, base[1])
        elif loop.recipe.carry_optimizer and (identity.span is None or identity.is_ending):
            save_tensors(folder, "optimizer", dict(loop.moments))


def _require_same_weights(executor: Executor, identity: StageIdentity, source: str, digest: str) -> None:
    """Refuse a method that changes weights as its first stage ends: its row is not the one that was measured.

    Raises:
        BadPlugin: what to do.
    """
    made = executor.store.read(source)
    assert isinstance(made, StoredStage)
    if digest != made.weights_digest:
        name = identity.method.name
        raise BadPlugin(
            f"begin or end of method '{name}' changes weights in a stage that is trained as that of the method it starts "
            "as; leave starts_as out"
        )


def _loop(executor: Executor, spec: Spec, method: Method, inputs: StageInputs, parent: str | None) -> StageLoop:
    """Return the loop of a stage, or of a part of it."""
    identity, materials = spec.identity, executor.materials
    assert isinstance(identity, StageIdentity)
    loop = StageLoop(
        method,
        inputs,
        place=identity.place or START,
        stop=identity.span[1] if identity.span else None,
        carried=materials.carried(spec.lookup, parent) if inputs.recipe.carry_optimizer else None,
        probes=probes_of(materials, spec, inputs, parent),
    )
    if (share := unknown_share(inputs.blocks, inputs.backbone.tokenizer)) >= UNKNOWN_SHARE:
        loop.stage.note(unknown_share=share)
    if executor.ranks.size > 1:
        loop.stage.note(ranks=executor.ranks.size)
    return loop


def _sources(spec: Spec, identity: StageIdentity) -> tuple[str | None, str | None]:
    """Return the keys of the LM before a stage (None: a checkpoint that was given), and of what made its first updates.

    That is the trunk of a branch, and another method's stage for an ending; None for a whole stage and a trunk.
    """
    parents = list(spec.parents)
    source = parents.pop() if identity.goes_on else None
    return next(iter(parents), None), source


def work_of(spec: Spec) -> Work:
    """Return on what this process computes a node."""
    arithmetic = spec.identity.arithmetic
    return Work(
        model=spec.lookup.model,
        precision=arithmetic.precision,
        device=device().type,
        device_name=device_name(),
        compiled=arithmetic.compiled,
    )


def resolved(recipe: PretrainRecipe, arithmetic: Arithmetic) -> PretrainRecipe:
    """Return a recipe with the arithmetic of a node."""
    return dataclasses.replace(recipe, precision=cast("Any", arithmetic.precision), compiled=arithmetic.compiled)
