"""A stage as a script with the Hugging Face Trainer computes it: one process, from raw text to saved weights.

python -m ctbench.speed.trainer_stage FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Pre-train the model of a folder that `ctbench.speed.protocol.write_trainer_side` wrote, and save it there."""
    import transformers

    folder = Path(sys.argv[1])
    about = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder / "model")
    with tempfile.TemporaryDirectory() as output:
        trainer = transformers.Trainer(
            model=model,
            args=_arguments(about, output),
            data_collator=transformers.DataCollatorForLanguageModeling(
                tokenizer, mlm_probability=about["mask_fraction"]
            ),
            train_dataset=_load(folder, output, tokenizer, about["length"]),
        )
        result = trainer.train()
        trainer.save_model(str(folder / "after"))
    print(json.dumps({"loss": result.training_loss}))


def _load(folder: Path, cache: str, tokenizer: Any, length: int) -> Any:
    import datasets

    def encode(rows: Any) -> Any:
        return tokenizer(rows["text"], return_special_tokens_mask=True)

    def group(rows: Any) -> Any:
        joined = {name: [number for row in column for number in row] for name, column in rows.items()}
        size = len(joined["input_ids"]) // length * length
        starts = range(0, size, length)
        return {name: [column[at : at + length] for at in starts] for name, column in joined.items()}

    data = datasets.load_dataset("text", data_files=str(folder / "text.txt"), cache_dir=cache)["train"]
    return data.map(encode, batched=True, remove_columns=["text"]).map(group, batched=True)


def _arguments(about: dict[str, Any], output: str) -> Any:
    import transformers

    from ctbench.machine.device import device

    return transformers.TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=about["batch"],
        max_steps=about["steps"],
        learning_rate=about["lr"],
        weight_decay=about["weight_decay"],
        warmup_steps=round(about["warmup_fraction"] * about["steps"]),
        bf16=about["precision"] == "bf16",
        use_cpu=device().type == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main()
