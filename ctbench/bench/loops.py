"""Three loops that do the same pre-training work, each timed over its later steps: engine, bare, Trainer.

The work: blocks of T tokens, 15 % of the places predicted (80/10/10), the model's own dropout, AdamW with a linear
schedule, gradients clipped at 1.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from torch.nn import functional as F

from ctbench.bench.shapes import (
    MASK_FRACTION,
    RandomBlocks,
    Shape,
    make_backbone,
    make_model,
    make_recipe,
    make_tokenizer,
)
from ctbench.device import autocast, device, isolated, peak_memory_bytes, reset_peak_memory
from ctbench.kernels import return_freed_memory
from ctbench.masking import Masker
from ctbench.method import Method
from ctbench.plugins import get_method, get_stream
from ctbench.pretrain import LOG_EVERY, Trainer, learning_rate, make_optimizer

if TYPE_CHECKING:
    from ctbench.data.tokens import Blocks

NUM_BLOCKS: Final = 2_048
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


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a loop is asked to do.

    Args:
        shape: model and batch.
        precision: "fp32" or "bf16".
        threads: CPU threads.
        warmup: steps before the clock starts.
        steps: steps that are timed.
        method: name or path of a method, for the engine; None is the LM loss alone.
        compiled: whether the engine compiles the layers, the Trainer the model.
    """

    shape: Shape
    precision: str
    threads: int
    warmup: int
    steps: int
    method: str | None = None
    compiled: bool = False


def run_engine(work: Work) -> dict[str, Any]:
    """Run the engine's loop: the second of two stages, because a first one has nothing to guard."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two.toml"
        path.write_text(STREAM, encoding="utf-8")
        stream = get_stream(str(path))
    method = Method() if work.method is None else get_method(work.method)
    with isolated(threads=1):
        torch.manual_seed(0)
        backbone = method.build(make_backbone(work.shape), stream).to(device())
    memory: dict[str, Any] = {}
    stamps: dict[int, float] = {}
    reports = [None, lambda step, _num_steps, _loss: stamps.setdefault(step, time.perf_counter())]
    if work.method is None:
        reports = reports[1:]
    warmup = _rounded(work.warmup)
    for number, report in enumerate(reports):
        num_steps = LOG_EVERY if report is None else warmup + _rounded(work.steps)
        before = copy.deepcopy(backbone).to("cpu")
        trainer = Trainer(
            method=method,
            backbone=backbone,
            memory=memory,
            blocks={stream.names[number]: cast("Blocks", _blocks(work.shape, seed=number))},
            recipe=make_recipe(
                work.shape,
                num_steps=num_steps,
                precision=work.precision,
                threads=work.threads,
                compiled=work.compiled,
            ),
            num_steps=num_steps,
            seed=0,
            load_teacher=lambda before=before: copy.deepcopy(before),  # type: ignore[misc]  # bound early
        )
        record = trainer.run(report=cast("Any", report))
        memory = trainer.stage.memory
    steps = num_steps - warmup
    places = Masker.of(backbone, MASK_FRACTION).num_places(work.shape.length) / work.shape.length
    return _reading(
        seconds=stamps[num_steps] - stamps[warmup],
        steps=steps,
        tokens=record["tokens"] * steps // num_steps,
        predicted_fraction=places,
        loss=record["losses"]["loss"][-1],
        peak=record["peak_memory_bytes"],
    )


def run_bare(work: Work) -> dict[str, Any]:
    """Run the same work as the least code that does it: no method, no log, no hooks; kernels and masks alike."""
    return_freed_memory()
    reset_peak_memory()
    shape, steps = work.shape, work.warmup + work.steps
    with isolated(threads=work.threads):
        backbone = make_backbone(shape).to(device())
        model, where = backbone.model.train(), device()
        recipe = make_recipe(shape, num_steps=steps, precision=work.precision, threads=work.threads)
        optimizer = make_optimizer(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        masker, generator = Masker.of(backbone, MASK_FRACTION), np.random.Generator(np.random.SFC64(0))
        blocks = _blocks(shape, seed=0)
        order = generator.permutation(len(blocks))
        head = model.cls if shape.family == "bert" else model.lm_head
        backbone.train()
        total, started, num_places = torch.zeros((), device=where), 0.0, 0
        for step in range(steps):
            if step == work.warmup:
                started = _now()
            batch = masker(blocks[order.take(np.arange(shape.batch) + step * shape.batch, mode="wrap")], generator)
            batch = batch.to(where)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, steps)
            with autocast(work.precision, where):
                hidden = model.base_model(batch.input_ids).last_hidden_state
                assert batch.positions is not None and batch.targets is not None
                logits = head(hidden.flatten(0, 1)[batch.positions])
                loss = F.cross_entropy(logits.float(), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped upstream
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
            num_places = len(batch.targets)
        seconds = _now() - started
    return _reading(
        seconds=seconds,
        steps=work.steps,
        tokens=work.steps * shape.tokens_per_step,
        predicted_fraction=num_places / shape.tokens_per_step,
        loss=float(total) / steps,
        peak=peak_memory_bytes(),
    )


def run_trainer(work: Work) -> dict[str, Any]:
    """Run the Hugging Face Trainer as its documentation shows it: data set, collator, default arguments."""
    import datasets
    import transformers

    if work.compiled:
        torch.compiler.reset()  # every request has a model of its own, and recompilations are limited
    return_freed_memory()
    reset_peak_memory()
    torch.set_num_threads(work.threads)
    shape, counts, stamps = work.shape, [], {}
    collate = transformers.DataCollatorForLanguageModeling(make_tokenizer(shape), mlm_probability=MASK_FRACTION)

    def counting(features: Any) -> Any:
        batch = collate(features)
        counts.append((batch["input_ids"].numel(), int((batch["labels"] != -100).sum())))
        return batch

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]  # untyped upstream
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (work.warmup, work.warmup + work.steps):
                stamps[state.global_step] = _now()

    with tempfile.TemporaryDirectory() as folder, isolated(threads=work.threads):
        trainer = transformers.Trainer(
            model=make_model(shape),
            args=transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=shape.batch,
                max_steps=work.warmup + work.steps,
                learning_rate=1e-4,
                bf16=work.precision == "bf16",
                torch_compile=work.compiled,
                tf32=None if device().type == "cpu" else False,  # as the engine's fp32; compiling would switch it on
                use_cpu=device().type == "cpu",
                dataloader_pin_memory=device().type != "cpu",
                remove_unused_columns=False,
                disable_tqdm=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
            ),
            data_collator=counting,
            train_dataset=datasets.Dataset.from_dict({"input_ids": _blocks(shape, seed=0).lists}),
            callbacks=[Clock()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        result = trainer.train()
    timed = counts[work.warmup : work.warmup + work.steps]
    tokens = sum(places for places, _ in timed)
    return _reading(
        seconds=stamps[work.warmup + work.steps] - stamps[work.warmup],
        steps=work.steps,
        tokens=tokens,
        predicted_fraction=sum(predicted for _, predicted in timed) / tokens,
        loss=float(result.training_loss),
        peak=peak_memory_bytes(),
    )


LOOPS: Final[dict[str, Callable[[Work], dict[str, Any]]]] = {
    "engine": run_engine,
    "bare": run_bare,
    "trainer": run_trainer,
}


def run_loop(request: dict[str, Any]) -> dict[str, Any]:
    """Run the loop that a request names; its other keys are the fields of `Work`, the shape as a dictionary."""
    rest = {key: value for key, value in request.items() if key != "loop"}
    return LOOPS[request["loop"]](Work(**rest | {"shape": Shape(**request["shape"])}))


def as_request(loop: str, work: Work) -> dict[str, Any]:
    """Return the request that `run_loop` reads: plain JSON."""
    return {"loop": loop, **asdict(work)}


def _rounded(steps: int) -> int:
    return -(-steps // LOG_EVERY) * LOG_EVERY


def _blocks(shape: Shape, *, seed: int) -> RandomBlocks:
    return RandomBlocks(vocabulary=shape.vocabulary, length=shape.length, num_blocks=NUM_BLOCKS, seed=seed)


def _now() -> float:
    if device().type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def _reading(
    *, seconds: float, steps: int, tokens: int, predicted_fraction: float, loss: float, peak: int
) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "steps": steps,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "predicted_fraction": predicted_fraction,
        "loss": loss,
        "peak_memory_bytes": peak,
    }
