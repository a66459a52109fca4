"""The pre-training loop: one stage of one method, with the same optimiser, schedule and budget for all methods."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ctbench.backbone.shards import nested, whole
from ctbench.errors import BadPlugin, RunFailed
from ctbench.kernels.compiled import compile_layers, compiled_step, release_compiled
from ctbench.machine.allocator import return_freed_memory
from ctbench.machine.device import Stopwatch, autocast, isolated, peak_memory_bytes, reset_peak_memory
from ctbench.machine.interrupts import Interrupted, deferring
from ctbench.memory import num_bytes
from ctbench.method import Method
from ctbench.stage import Stage, StageInputs
from ctbench.training.checkpoint import StageCheckpoint, adopt, capture, restore
from ctbench.training.effects import gradient_notes, looks
from ctbench.training.flops import FlopMeter, counted
from ctbench.training.hooks import LoopHooks
from ctbench.training.log import LOG_EVERY, RESERVED, LossLog, TrainingRecord
from ctbench.training.optimizer import load_optimizer_state, make_optimizer, optimizer_state
from ctbench.training.probes import Probes
from ctbench.training.schedules import START, Place, learning_rate
from ctbench.training.together import Together


class StageLoop:
    """Runs the updates of one stage.

    Args:
        method: decides the loss and may edit gradients, weights and memory.
        inputs: the LM, its memory, the stage's text, recipe and seed.
        place: where the stage lies in its run.
        stop: number of updates after which a trunk ends; None for the whole stage.
        carried: the optimiser's state of the stage before, from `optimizer_state`; None begins without.
        probes: what to measure on the way; None for nothing.

    Attributes:
        branching: of a trunk that has ended, the state before `Method.end`, from which its branch goes on.
    """

    def __init__(
        self,
        method: Method,
        inputs: StageInputs,
        *,
        place: Place = START,
        stop: int | None = None,
        carried: Mapping[str, Tensor] | None = None,
        probes: Probes | None = None,
    ) -> None:
        self.method = method
        self.place = place
        self.stop = inputs.num_steps if stop is None else stop
        self.branching: StageCheckpoint | None = None
        self.probes = Probes() if probes is None else probes
        self.together = Together(method, inputs)
        self.recipe = inputs.recipe
        self.stage = Stage(inputs)
        for part in nested(inputs.backbone):
            part.forward_tokens = 0
        self.moments: Mapping[str, Tensor] = carried or {}
        self.train(dict(inputs.backbone.trainable()))
        self.log = LossLog()
        self.watch = Stopwatch()
        self.earlier_forward_tokens = 0
        self.earlier_peak = 0
        self.flops = FlopMeter()
        self._is_compiled = self.recipe.compiled and compile_layers(inputs.backbone.layers, self.stage.device)
        self._looks = frozenset() if self._is_compiled else looks(inputs.num_steps)
        self._counted = frozenset() if self._is_compiled else counted(inputs.num_steps)

    def train(self, parameters: dict[str, Tensor]) -> None:
        """Let some parameters be those that train, with an optimiser that begins without moments."""
        self.trained = parameters
        self.optimizer = make_optimizer(parameters.values(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)

    @property
    def forward_tokens(self) -> int:
        """Tokens that went forward through an LM so far, before an interruption too."""
        teacher = self.stage.teacher.forward_tokens if self.stage.has_teacher else 0
        parts = nested(self.stage.backbone)
        return self.earlier_forward_tokens + sum(part.forward_tokens for part in parts) + teacher

    @property
    def peak_memory_bytes(self) -> int:
        """Peak memory of the process, or of one before an interruption if that was larger."""
        return max(self.earlier_peak, peak_memory_bytes())

    def run(
        self,
        hooks: LoopHooks | None = None,
        *,
        checkpoint: StageCheckpoint | None = None,
        made: StageCheckpoint | None = None,
    ) -> TrainingRecord:
        """Train from the beginning, or from a checkpoint, to the end of the stage.

        Args:
            hooks: what to call at logged points.
            checkpoint: where an interrupted run stopped.
            made: the end of another method's stage, which made all updates; the stage begins, takes them over and ends.

        Raises:
            RunFailed: the loss is NaN, infinite or above its limit.
            Interrupted: the process was asked to stop; a checkpoint was saved.
        """
        hooks = hooks or LoopHooks()
        return_freed_memory()
        self.watch = Stopwatch()
        reset_peak_memory()
        with isolated(threads=self.recipe.threads), self._releasing():
            if checkpoint is None:
                self._begin(made)
            else:
                restore(self, checkpoint)
                if hooks.resuming is not None:
                    hooks.resuming(checkpoint.step, self.stage.num_steps)
            self.together.agree(self.stage)
            start = checkpoint or made
            with self.together.sharded(self):
                load_optimizer_state(self.optimizer, self.trained, self.moments)
                self._updates(0 if start is None else start.step, hooks)
                self._keep()
            self._end()
        return self._record()

    def _begin(self, made: StageCheckpoint | None) -> None:
        with self._counting_whole():
            self.stage.prepare()
            self.method.begin(self.stage)
        self._forget_moments()
        if made is not None:
            adopt(self, made)

    def _keep(self) -> None:
        """Keep what a branch goes on from, and the moments that the next stage goes on with."""
        if self.stop < self.stage.num_steps:
            self.branching = copy.deepcopy(capture(self, self.stop))
        self.moments = optimizer_state(self.optimizer, self.trained) if self.recipe.carry_optimizer else {}

    def _end(self) -> None:
        """Close the stage, or its trunk, which is then a stage of fewer updates; its branch pays for the trunk's end."""
        stage = self.stage
        stage.num_steps = self.stop
        stage.finish()
        self.optimizer.zero_grad(set_to_none=True)
        with self._counting_whole():
            self.method.end(stage)
        self.together.agree(stage)
        self._check_weights()
        if self.branching is not None:
            self.branching.forward_tokens, self.branching.flops = self.forward_tokens, self.flops.state
            self.branching.seconds, self.branching.cpu_seconds = self.watch.seconds, self.watch.cpu_seconds
            self.branching.peak_memory_bytes = self.peak_memory_bytes

    def _check_weights(self) -> None:
        """Refuse weights that are NaN or infinite: the losses are those before the last update."""
        broken = [name for name, parameter in self.trained.items() if not bool(parameter.isfinite().all())]
        if broken:
            raise RunFailed(
                f"training diverged in the last updates: {len(broken)} weights are not finite, the first is {broken[0]}; "
                "lower pretrain.lr, raise pretrain.warmup_fraction or lower pretrain.clip; nothing of this stage is kept"
            )

    def _updates(self, first: int, hooks: LoopHooks) -> None:
        stage, saved = self.stage, time.perf_counter()
        stage.backbone.train()
        with deferring() as interrupt:
            if not first:
                self.probes.look(0, stage.backbone)
            for step in range(first, self.stop):
                self._update(step)
                self.probes.look(step + 1, stage.backbone)
                is_last = step + 1 == self.stop
                is_logged = is_last or (step + 1) % LOG_EVERY == 0
                if is_logged:
                    means = self.log.flush(step + 1, max_loss=hooks.max_loss)
                    self.together.check(step + 1, means["loss"], self.trained)
                    if hooks.report is not None:
                        hooks.report(step + 1, stage.num_steps, means["loss"])
                if number := self.together.heard(interrupt.number):
                    self._save_interrupted(step + 1, hooks)
                    raise Interrupted(number)
                is_due = is_logged and not is_last and time.perf_counter() - saved >= hooks.save_seconds
                if is_logged and self._save(step + 1, hooks, is_due=is_due):
                    saved = time.perf_counter()

    def _save(self, step: int, hooks: LoopHooks, *, is_due: bool) -> bool:
        """Save a checkpoint if it is due on the rank that saves any, and return whether it was."""
        if not self.together.any(is_due and hooks.save is not None):
            return False
        checkpoint = capture(self, step)
        if hooks.save is not None:
            hooks.save(checkpoint)
        return True

    def _save_interrupted(self, step: int, hooks: LoopHooks) -> None:
        if self._save(step, hooks, is_due=True) and hooks.saved is not None:
            hooks.saved(step, self.stage.num_steps)

    def _counting_whole(self) -> AbstractContextManager[None]:
        return nullcontext() if self._is_compiled else self.flops.counting()

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._is_compiled:
                release_compiled()

    def _update(self, step: int) -> None:
        stage, recipe = self.stage, self.recipe
        batch = stage.start_step(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, stage.num_steps, self.place)
        is_counted = step in self._counted
        with compiled_step() if self._is_compiled else nullcontext():
            counting, precision = (
                self.flops.sampling(is_counted=is_counted, size=1),
                autocast(recipe.precision, stage.device),
            )
            with counting, precision, self.together.averaging():
                terms = _checked(self.method, self.method.loss(stage, batch))
                self.together.require_plain(terms)
            if step in self._looks:
                gradients = self.together.gradients
                stage.note(**gradient_notes(terms, self.trained.values(), stage.notes, gradients=gradients))
            total = sum(terms.values(), start=torch.zeros((), device=stage.device))
            with self.flops.sampling(is_counted=is_counted):
                total.backward()  # type: ignore[no-untyped-call]  # untyped upstream
            self.together.average(self.trained.values())
        with self.flops.sampling(is_counted=is_counted):
            self.method.after_backward(stage)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), recipe.clip) if recipe.clip > 0 else None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with self.flops.sampling(is_counted=is_counted):
            self.method.after_step(stage)
        self._forget_moments()
        self.log.add(step, {"loss": total} | terms, gradient_norm=None if norm is None else whole(norm))

    def _forget_moments(self) -> None:
        """Let the optimiser begin anew if the method has asked for it."""
        if self.stage.take_forget_request():
            self.optimizer.state.clear()
            self.moments = {}

    def _record(self) -> TrainingRecord:
        stage, watch = self.stage, self.watch
        flops, cpu_seconds, memory = self.together.cost(
            flops=self.flops.total, cpu_seconds=watch.cpu_seconds, memory=self.peak_memory_bytes
        )
        return TrainingRecord(
            domains=stage.domains,
            steps=self.log.steps,
            losses=self.log.losses,
            notes={name: value if math.isfinite(value) else None for name, value in stage.notes.items()},
            tokens=stage.num_steps * self.recipe.batch * self.recipe.length,
            forward_tokens=self.forward_tokens,
            flops=None if math.isnan(flops) else flops,
            seconds=watch.seconds,
            cpu_seconds=cpu_seconds,
            peak_memory_bytes=memory,
            trained_parameters=sum(parameter.numel() for parameter in self.trained.values()),
            stored_bytes=num_bytes(stage.memory),
            probe_steps=self.probes.seen,
            probes=self.probes.losses,
        )


def _checked(method: Method, terms: Any) -> dict[str, Tensor]:
    """Return the terms of a loss, or raise what is wrong with them in the words of the interface."""
    wanted = f"{type(method).__name__}.loss must return a dict of scalar tensors by name, such as {{'lm': output.loss}}"
    if not isinstance(terms, Mapping):
        raise BadPlugin(f"{wanted}; it returned a {type(terms).__name__}")
    for name, term in terms.items():
        if not isinstance(name, str) or not name or name in RESERVED or "/" in name:
            names = ", ".join(f"'{word}'" for word in RESERVED)
            raise BadPlugin(
                f"{wanted}; a term may not be called {name!r}: expected a text without '/', none of {names}"
            )
        if not isinstance(term, Tensor) or term.numel() != 1:
            found = f"a tensor of shape {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise BadPlugin(f"{wanted}; '{name}' is {found}")
    if not any(term.requires_grad for term in terms.values()):
        raise BadPlugin(f"{wanted}; {'no term depends on a weight that trains' if terms else 'it returned no term'}")
    return dict(terms)
