"""What computes a node from its spec: the part of the engine that a worker runs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, cast

from ctbench.backbone.hooks import freeze_all_but_head
from ctbench.backbone.loading import save_backbone
from ctbench.data.schema import GENERAL
from ctbench.data.settings import PretrainRecipe
from ctbench.engine.counts import num_parameters
from ctbench.engine.edited import Unedited
from ctbench.engine.identity import BaseIdentity, CellIdentity, StageIdentity
from ctbench.engine.losses import adapted, compute_loss
from ctbench.engine.materials import Materials, state_digest
from ctbench.engine.node import Spec
from ctbench.engine.records import Stored, StoredBase, StoredCell
from ctbench.engine.resume import load_checkpoint, save_checkpoint
from ctbench.engine.stages import compute_stage, resolved, work_of
from ctbench.engine.store import OTHER_HOME, Store
from ctbench.errors import BadConfig, RunFailed, unwritable
from ctbench.machine.claims import Waiting
from ctbench.machine.device import check_device, device, sharing_gpu
from ctbench.machine.ranks import ALONE, Ranks
from ctbench.method import Method
from ctbench.stage import StageInputs
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.finetune import finetune
from ctbench.training.hooks import LoopHooks, Report, Tell
from ctbench.training.log import TrainingRecord
from ctbench.training.pretrain import StageLoop


class Executor:
    """Computes nodes into a store.

    Args:
        store: where nodes are read and written.
        corpora: folder of packed text, shared by all runs.
        save_seconds: wall time between two stage checkpoints.
        max_loss: training loss above which a stage fails; None has no limit.
        ranks: this process among those that train stages together.
    """

    def __init__(
        self,
        store: Store,
        corpora: Path,
        *,
        save_seconds: float = 60.0,
        max_loss: float | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.store = store
        self.materials = Materials(store, corpora)
        self._unedited = Unedited()
        self.save_seconds = save_seconds
        self.max_loss = max_loss
        self.ranks = ranks

    def compute(
        self,
        spec: Spec,
        report: Report | None = None,
        *,
        waiting: Waiting | None = None,
        resuming: Tell | None = None,
        saved: Tell | None = None,
    ) -> bool:
        """Compute a node unless the store has it.

        Args:
            spec: from `Node.spec`.
            report: called with the progress of a base or a stage.
            waiting: called with the process that computes the node already, if one does.
            resuming: called with (step, num_steps) if a checkpoint of the node is there.
            saved: called with (step, num_steps) when an interrupt has made it save one.

        Returns:
            Whether anything was computed.

        Raises:
            BadConfig: the node's key says that another kind of device computes it, or what it reads was edited meanwhile.
            OutOfMemory: memory does not suffice.
            RunFailed: training diverged, or a file of the store is damaged or cannot be written.
            Interrupted: the process was asked to stop.
        """
        if self.store.has(spec.key):
            return False
        check_device(spec.identity.arithmetic.device)
        self._check_ranks(spec)
        with self.store.claim(spec.key, waiting=waiting):
            if self.store.has(spec.key):
                return False
            if self.store.damage(spec.key, thorough=False) is not None:
                self.store.set_aside(spec.key)
            self._unedited.require(spec, self.materials.stream(spec.lookup))
            with sharing_gpu(thoroughly=spec.kind in ("base", "stage")):
                hooks = LoopHooks(report=report, resuming=resuming, saved=saved, max_loss=self.max_loss)
                _COMPUTE[spec.kind](self, spec, self._saving(spec, hooks))
        return True

    def follow(self, spec: Spec) -> None:
        """Train a stage that the first rank has called for; nothing is written."""
        self._check_ranks(spec)
        with sharing_gpu(thoroughly=True):
            compute_stage(self, spec, LoopHooks(max_loss=self.max_loss))

    def call_ranks(self, spec: Spec) -> None:
        """Let the other ranks train a stage too."""
        if self.ranks.size > 1 and self.ranks.is_first:
            self.ranks.tell_all(spec.to_json())

    def _check_ranks(self, spec: Spec) -> None:
        """Refuse a stage that another number of ranks was planned for: it belongs to the key."""
        planned = (spec.identity.ranks or 1) if isinstance(spec.identity, StageIdentity) else self.ranks.size
        if planned != self.ranks.size:
            raise BadConfig(
                f"the stage was planned for {planned} ranks, and {self.ranks.size} would train it; only ctbench run "
                "trains with several"
            )

    def _saving(self, spec: Spec, hooks: LoopHooks) -> LoopHooks:
        folder = self.store.checkpoints(spec.key)

        def save(checkpoint: StageCheckpoint) -> None:
            try:
                save_checkpoint(folder, checkpoint)
            except OSError as error:
                raise RunFailed(unwritable(f"the store '{self.store.root}'", error, OTHER_HOME)) from error

        return dataclasses.replace(hooks, save=save, save_seconds=self.save_seconds)

    def writing(self, spec: Spec, record: Stored) -> AbstractContextManager[Path]:
        """Return the context that writes a node; see `Store.writing`."""
        identity = spec.identity
        lm = identity if isinstance(identity, StageIdentity) else getattr(identity, "lm", None)
        method = lm.method.name if lm is not None and lm.method is not None else ""
        about = {"stream": self.materials.stream(spec.lookup).name, "method": method, "title": spec.title}
        record = dataclasses.replace(record, lineage=self.store.lineage(spec.parents))
        return self.store.writing(spec.key, record, about=about)

    def train(
        self, loop: StageLoop, spec: Spec, hooks: LoopHooks, *, start: StageCheckpoint | None = None
    ) -> TrainingRecord:
        """Run a loop from the newest checkpoint of the node, or from `start`, the end of a branch's trunk."""
        checkpoint = load_checkpoint(self.store.checkpoints(spec.key))
        if checkpoint is None:  # a branch that begins does not resume
            return loop.run(dataclasses.replace(hooks, resuming=None), checkpoint=start)
        return loop.run(hooks, checkpoint=checkpoint)


def _compute_base(executor: Executor, spec: Spec, hooks: LoopHooks) -> None:
    identity, materials = spec.identity, executor.materials
    assert isinstance(identity, BaseIdentity)
    backbone = materials.untrained(spec.lookup, identity, next(iter(spec.parents), None))
    if identity.trains == "head":
        freeze_all_but_head(backbone.model)
    recipe = resolved(PretrainRecipe(**identity.recipe), identity.arithmetic)
    inputs = StageInputs(
        backbone=backbone.to(device()),
        memory={},
        blocks={GENERAL: materials.blocks_for(backbone, spec.lookup, GENERAL, recipe.length)},
        recipe=recipe,
        num_steps=recipe.num_steps,
        seed=identity.seed,
        load_teacher=lambda: copy.deepcopy(backbone),
    )
    training = executor.train(StageLoop(Method(), inputs), spec, hooks)
    if not identity.model:
        what = "its LM head alone" if identity.trains == "head" else "all of it"
        backbone.notes += (f"warm-up: {what} was trained on {training.tokens:,} tokens of general text before row 0",)
    record = StoredBase(
        training=training,
        weights_digest=state_digest(backbone.state()),
        parameters=num_parameters(backbone),
        work=work_of(spec),
    )
    with executor.writing(spec, record) as folder:
        save_backbone(backbone, folder)


def _compute_cell(executor: Executor, spec: Spec, _hooks: LoopHooks) -> None:
    identity, materials, lookup = spec.identity, executor.materials, spec.lookup
    assert isinstance(identity, CellIdentity)
    recipe = materials.stream(lookup).recipe.finetune
    recipe = dataclasses.replace(recipe, precision=cast("Any", identity.arithmetic.precision))
    backbone = adapted(executor.materials, spec, identity.lm, identity.domain).to(device())
    task = materials.task(lookup, identity.domain)
    scored = finetune(backbone, task, name=identity.domain, recipe=recipe, seed=identity.seed)
    record = StoredCell(
        metrics=scored.metrics,
        validation=scored.validation,
        majority=task.majority,
        baseline=task.baseline,
        num_test=len(task.test),
        tokens=scored.tokens,
        flops=scored.flops,
        seconds=scored.seconds,
        peak_memory_bytes=scored.peak_memory_bytes,
        work=dataclasses.replace(work_of(spec), epochs=recipe.epochs),
    )
    with executor.writing(spec, record):
        pass


_COMPUTE: Final[Mapping[str, Callable[[Executor, Spec, LoopHooks], None]]] = {
    "base": _compute_base,
    "stage": compute_stage,
    "loss": compute_loss,
    "cell": _compute_cell,
}
"""What computes each kind of node."""
