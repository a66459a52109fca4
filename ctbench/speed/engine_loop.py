"""The engine's loop: a stage of pre-training, run by `ctbench.training.pretrain.StageLoop`."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch

from ctbench.machine.device import device, isolated
from ctbench.masking import Masker
from ctbench.method import Method
from ctbench.plugins.find import get_method, get_stream
from ctbench.speed.shapes import MASK_FRACTION, make_backbone, make_recipe
from ctbench.speed.work import Work, make_blocks, reading
from ctbench.stage import StageInputs
from ctbench.training.hooks import LoopHooks
from ctbench.training.log import LOG_EVERY
from ctbench.training.pretrain import StageLoop

if TYPE_CHECKING:
    from ctbench.data.tokens import Blocks

STREAM: Final = """
kind = "domain"
summary = "two domains, to build methods for"
[language]
num_domains = 2
[pretrain]
tokens = 1_000
[finetune]
epochs = 1
"""


def run_engine(work: Work) -> dict[str, Any]:
    """Time a stage of the engine: with a method the second stage, as the first has no earlier domain to protect."""
    loop = _EngineLoop(work)
    memory: dict[str, Any] = {}
    if work.method is not None:
        first = loop.stage(0, memory, num_steps=LOG_EVERY)
        first.run()
        memory = first.stage.memory
    warmup, steps = _rounded(work.warmup), _rounded(work.steps)
    stamps: dict[int, float] = {}

    def report(step: int, _num_steps: int, _loss: float) -> None:
        stamps.setdefault(step, time.perf_counter())

    timed = loop.stage(0 if work.method is None else 1, memory, num_steps=warmup + steps)
    record = timed.run(LoopHooks(report=report))
    length = work.shape.length
    return reading(
        seconds=stamps[warmup + steps] - stamps[warmup],
        steps=steps,
        tokens=record.tokens * steps // (warmup + steps),
        predicted_fraction=Masker.of(loop.backbone, MASK_FRACTION).num_places(length) / length,
        loss=record.losses["loss"][-1],
        peak=record.peak_memory_bytes,
    )


class _EngineLoop:
    """A method, the LM that it has built, and a stream of two domains."""

    def __init__(self, work: Work) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "two.toml"
            path.write_text(STREAM, encoding="utf-8")
            self.stream = get_stream(str(path))
        self.work = work
        self.method = Method() if work.method is None else get_method(work.method)
        with isolated(threads=1):
            torch.manual_seed(0)
            self.backbone = self.method.build(make_backbone(work.shape), self.stream).to(device())

    def stage(self, number: int, memory: dict[str, Any], *, num_steps: int) -> StageLoop:
        """Return a stage on the domain with index `number`, ready to run."""
        work = self.work
        before = copy.deepcopy(self.backbone).to("cpu")
        inputs = StageInputs(
            backbone=self.backbone,
            memory=memory,
            blocks={self.stream.names[number]: cast("Blocks", make_blocks(work.shape, seed=number))},
            recipe=make_recipe(
                work.shape, num_steps=num_steps, precision=work.precision, threads=work.threads, compiled=work.compiled
            ),
            num_steps=num_steps,
            seed=0,
            load_teacher=lambda: copy.deepcopy(before),
        )
        return StageLoop(self.method, inputs)


def _rounded(steps: int) -> int:
    """Return the number of steps, rounded up to the engine's clock, which ticks every LOG_EVERY steps."""
    return -(-steps // LOG_EVERY) * LOG_EVERY
