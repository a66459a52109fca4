"""The pre-training loop: one stage of one method, the same optimiser, schedule and budget for all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ctbench.backbone import Backbone
from ctbench.compiled import compiled_step, release_compiled
from ctbench.data.stream import PretrainRecipe
from ctbench.data.tokens import Blocks
from ctbench.device import Stopwatch, autocast, isolated, peak_memory_bytes, reset_peak_memory
from ctbench.errors import BadPlugin
from ctbench.kernels import return_freed_memory
from ctbench.memory import Tree, num_bytes
from ctbench.method import Method
from ctbench.stage import Stage

LOG_EVERY = 10
"""Updates per logged point; the losses of a point are means over them."""

Report = Callable[[int, int, float], None]
"""Told (step, num_steps, loss) at every logged point."""


@dataclass(kw_only=True)
class Progress:
    """All that a half-finished stage needs to go on as if it had not been interrupted.

    Generators are not among it: they are made anew from (seed, domains, purpose, step).
    """

    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    memory: Tree = field(default_factory=dict)
    log: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)
    num_extra: int = 0
    forward_tokens: int = 0
    has_teacher: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def learning_rate(recipe: PretrainRecipe, step: int, num_steps: int) -> float:
    """Return the learning rate of update `step` of `num_steps`: a linear warm-up, then the recipe's schedule.

    Example:
        >>> recipe = PretrainRecipe(tokens=6400, batch=1, length=64, lr=1.0, warmup_fraction=0.1)
        >>> [round(learning_rate(recipe, step, 100), 2) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.01]
    """
    return recipe.lr * schedule_scale(recipe.schedule, recipe.warmup_fraction, step, num_steps)


def schedule_scale(schedule: str, warmup_fraction: float, step: int, num_steps: int) -> float:
    """Return the share of the peak learning rate that update `step` of `num_steps` uses, in (0, 1]."""
    warmup = round(warmup_fraction * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    if schedule == "constant":
        return 1.0
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def make_optimizer(parameters: Iterable[Tensor], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over `parameters`; vectors (biases, norms) are spared the weight decay."""
    every = list(parameters)
    groups = [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=True)


class Trainer:
    """Runs the updates of one stage.

    Args:
        method: decides the loss and may edit gradients, weights and memory.
        backbone: built by the method, weights loaded, on its device.
        memory: the tree left by the stage before.
        blocks: the stage's text by domain.
        recipe: batch, length, learning rate and so on; `precision` and `compiled` are resolved.
        num_steps: updates to make.
        seed: the run's seed.
        load_teacher: gives the LM as it was before this stage.
    """

    def __init__(
        self,
        *,
        method: Method,
        backbone: Backbone,
        memory: Tree,
        blocks: dict[str, Blocks],
        recipe: PretrainRecipe,
        num_steps: int,
        seed: int,
        load_teacher: Callable[[], Backbone],
    ) -> None:
        self.method = method
        self.recipe = recipe
        self.stage = Stage(
            backbone=backbone,
            memory=memory,
            blocks=blocks,
            recipe=recipe,
            seed=seed,
            num_steps=num_steps,
            load_teacher=load_teacher,
        )
        for part in _backbones(backbone):
            part.forward_tokens = 0
        self.named = dict(backbone.trainable())
        self.optimizer = make_optimizer(self.named.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.log: dict[str, list[float]] = {}
        self._forward_tokens = 0
        self._watch = Stopwatch()
        self._sums: dict[str, Tensor] = {}
        self._is_compiled = recipe.compiled and backbone.compile_layers()

    def run(
        self,
        *,
        progress: Progress | None = None,
        report: Report | None = None,
        save: Callable[[Progress], None] | None = None,
        save_seconds: float = 60.0,
    ) -> dict[str, Any]:
        """Train from the beginning, or from `progress`, to the end of the stage.

        Args:
            progress: where an interrupted run stopped.
            report: told how far the stage is.
            save: given a `Progress` at a logged point, `save_seconds` of wall time after the last one or later.
            save_seconds: 0 saves at every logged point.

        Returns:
            The record of the stage: losses, notes and cost.
        """
        stage = self.stage
        return_freed_memory()
        self._watch = Stopwatch()
        reset_peak_memory()
        with isolated(threads=self.recipe.threads), self._releasing():
            if progress is None:
                stage.prepare()
                self.method.begin(stage)
            else:
                self._restore(progress)
            saved = time.perf_counter()
            stage.backbone.train()
            for step in range(0 if progress is None else progress.step, stage.num_steps):
                self._update(step)
                if (step + 1) % LOG_EVERY and step + 1 < stage.num_steps:
                    continue
                loss = self._flush_log(step + 1)
                if report is not None:
                    report(step + 1, stage.num_steps, loss)
                if save is not None and step + 1 < stage.num_steps and time.perf_counter() - saved >= save_seconds:
                    save(self._progress(step + 1))
                    saved = time.perf_counter()
            stage.finish()
            self.optimizer.zero_grad(set_to_none=True)
            self.method.end(stage)
        return self._record()

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
            group["lr"] = learning_rate(recipe, step, stage.num_steps)
        with compiled_step() if self._is_compiled else nullcontext():
            with autocast(recipe.precision, stage.device):
                terms = _checked(self.method, self.method.loss(stage, batch))
            total = sum(terms.values(), start=torch.zeros((), device=stage.device))
            total.backward()  # type: ignore[no-untyped-call]  # untyped upstream
        self.method.after_backward(stage)
        if recipe.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.named.values(), recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(stage)
        for name, term in ({"loss": total} | terms).items():
            value = term.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _flush_log(self, step: int) -> float:
        count = (step - 1) % LOG_EVERY + 1
        means = {name: (total / count).item() for name, total in self._sums.items()}
        for name, value in {"step": step, **means}.items():
            self.log.setdefault(name, []).append(value)
        self._sums = {}
        return means["loss"]

    def _progress(self, step: int) -> Progress:
        moments = {
            f"{key}/{name}": value
            for name, parameter in self.named.items()
            for key, value in self.optimizer.state[parameter].items()
        }
        return Progress(
            step=step,
            weights=self.stage.backbone.state(),
            optimizer={name: value.detach().cpu().contiguous() for name, value in moments.items()},
            memory=self.stage.memory,
            log=self.log,
            notes=self.stage.notes,
            num_extra=self.stage.num_extra,
            forward_tokens=self._count(),
            has_teacher=self.stage.has_teacher,
            seconds=self._watch.seconds,
            cpu_seconds=self._watch.cpu_seconds,
        )

    def _restore(self, progress: Progress) -> None:
        stage = self.stage
        if progress.has_teacher:
            assert stage.teacher is not None
        stage.backbone.load_state(progress.weights)
        for name, parameter in self.named.items():
            mine = [key for key in progress.optimizer if key.partition("/")[2] == name]
            for key in mine:
                value = progress.optimizer[key].to(stage.device, copy=True)  # fused AdamW wants even the step there
                self.optimizer.state[parameter][key.partition("/")[0]] = value
        stage.memory.clear()
        stage.memory.update(progress.memory)
        stage.notes = dict(progress.notes)
        stage.num_extra = progress.num_extra
        self.log = {name: list(values) for name, values in progress.log.items()}
        self._forward_tokens = progress.forward_tokens
        self._watch = Stopwatch(seconds=progress.seconds, cpu_seconds=progress.cpu_seconds)

    def _count(self) -> int:
        teacher = self.stage.teacher.forward_tokens if self.stage.has_teacher else 0
        return self._forward_tokens + sum(part.forward_tokens for part in _backbones(self.stage.backbone)) + teacher

    def _record(self) -> dict[str, Any]:
        stage = self.stage
        return {
            "domains": list(stage.domains),
            "steps": [int(step) for step in self.log.get("step", [])],
            "losses": {name: values for name, values in self.log.items() if name != "step"},
            "notes": stage.notes,
            "tokens": stage.num_steps * self.recipe.batch * self.recipe.length,
            "forward_tokens": self._count(),
            "seconds": self._watch.seconds,
            "cpu_seconds": self._watch.cpu_seconds,
            "peak_memory_bytes": peak_memory_bytes(),
            "trained_parameters": sum(parameter.numel() for parameter in self.named.values()),
            "stored_bytes": num_bytes(stage.memory),
        }


def _backbones(backbone: Backbone) -> list[Backbone]:
    """Return the LM in training and any other that a method put into it; their passes all count as cost."""
    return [part for part in backbone.modules() if isinstance(part, Backbone)]


def _checked(method: Method, terms: Any) -> dict[str, Tensor]:
    """Return the terms of a loss, or say what is wrong with them in the words of the interface."""
    wanted = f"{type(method).__name__}.loss must return a dict of scalar tensors by name, such as {{'lm': output.loss}}"
    if not isinstance(terms, Mapping):
        raise BadPlugin(f"{wanted}; it returned a {type(terms).__name__}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            found = f"a tensor of shape {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise BadPlugin(f"{wanted}; '{name}' is {found}")
    if not any(term.requires_grad for term in terms.values()):
        raise BadPlugin(f"{wanted}; {'no term depends on a weight that trains' if terms else 'it returned no term'}")
    return dict(terms)
