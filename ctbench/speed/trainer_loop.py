"""The loop of the Hugging Face Trainer, set up as its documentation shows: data set, collator, default arguments."""

from __future__ import annotations

import tempfile
from typing import Any

import torch

from ctbench.machine.allocator import return_freed_memory
from ctbench.machine.device import device, isolated, peak_memory_bytes, reset_peak_memory
from ctbench.speed.shapes import MASK_FRACTION, make_model, make_tokenizer
from ctbench.speed.work import Work, make_blocks, now, reading


def run_trainer(work: Work) -> dict[str, Any]:
    """Time the Trainer."""
    if work.compiled:
        torch.compiler.reset()  # every request has a model of its own, and recompilations are limited
    return_freed_memory()
    reset_peak_memory()
    torch.set_num_threads(work.threads)
    counts: list[tuple[int, int]] = []
    stamps: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder, isolated(threads=work.threads):
        result = _trainer(work, folder, counts, stamps).train()
    timed = counts[work.warmup : work.num_steps]
    tokens = sum(places for places, _ in timed)
    return reading(
        seconds=stamps[work.num_steps] - stamps[work.warmup],
        steps=work.steps,
        tokens=tokens,
        predicted_fraction=sum(predicted for _, predicted in timed) / tokens,
        loss=float(result.training_loss),
        peak=peak_memory_bytes(),
    )


def _trainer(work: Work, folder: str, counts: list[tuple[int, int]], stamps: dict[int, float]) -> Any:
    """Return a Trainer that fills `counts` (tokens, predicted tokens) at every batch, and `stamps` by step."""
    import datasets
    import transformers

    shape = work.shape
    collate = transformers.DataCollatorForLanguageModeling(make_tokenizer(shape), mlm_probability=MASK_FRACTION)

    def counting(features: Any) -> Any:
        batch = collate(features)
        counts.append((batch["input_ids"].numel(), int((batch["labels"] != -100).sum())))
        return batch

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]  # untyped upstream
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (work.warmup, work.num_steps):
                stamps[state.global_step] = now()

    trainer = transformers.Trainer(
        model=make_model(shape),
        args=_arguments(work, folder),
        data_collator=counting,
        train_dataset=datasets.Dataset.from_dict({"input_ids": make_blocks(shape, seed=0).lists}),
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _arguments(work: Work, folder: str) -> Any:
    import transformers

    is_cpu = device().type == "cpu"
    return transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=work.shape.batch,
        max_steps=work.num_steps,
        learning_rate=1e-4,
        bf16=work.precision == "bf16",
        torch_compile=work.compiled,
        tf32=None if is_cpu else False,  # as the engine's fp32; compiling would switch TF32 on
        use_cpu=is_cpu,
        dataloader_pin_memory=not is_cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
    )
