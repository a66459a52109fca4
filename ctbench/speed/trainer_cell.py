"""A cell as a script with the Hugging Face Trainer computes it: one process, from start-up to the score.

python -m ctbench.speed.trainer_cell FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Fine-tune the model of a folder that `ctbench.speed.cells` or `.protocol` wrote and print its accuracy."""
    import transformers

    folder = Path(sys.argv[1])
    about = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder / "model", num_labels=about["classes"]
    )
    with tempfile.TemporaryDirectory() as output:
        data = _load(folder, output, tokenizer, about["max_length"])
        trainer = transformers.Trainer(
            model=model,
            args=_arguments(about, output),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            compute_metrics=_accuracy,
        )
        trainer.train()
        print(json.dumps(trainer.evaluate()))


def _load(folder: Path, cache: str, tokenizer: Any, max_length: int) -> Any:
    import datasets

    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}

    def encode(rows: Any) -> Any:
        coded = tokenizer(rows["text"], truncation=True, max_length=max_length)
        return {**coded, "labels": [int(label.removeprefix("c")) for label in rows["label"]]}

    data = datasets.load_dataset("json", data_files=files, cache_dir=cache)
    return data.map(encode, batched=True, remove_columns=["text", "label"])


def _arguments(about: dict[str, Any], output: str) -> Any:
    import transformers

    from ctbench.machine.device import device

    return transformers.TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=about["batch"],
        per_device_eval_batch_size=64,
        num_train_epochs=about["epochs"],
        learning_rate=about["lr"],
        bf16=about["precision"] == "bf16",
        use_cpu=device().type == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )


def _accuracy(found: Any) -> dict[str, float]:
    logits, labels = found
    return {"accuracy": float((logits.argmax(-1) == labels).mean(dtype="float64"))}


if __name__ == "__main__":
    main()
