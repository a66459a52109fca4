"""A cell as a script around the Hugging Face Trainer does it: one process, from the start to the score.

python -m ctbench.bench.trainer_cell FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Fine-tune the model of a folder that `ctbench.bench.cells` or `.protocol` wrote and print its accuracy."""
    import datasets
    import numpy as np
    import transformers

    from ctbench.device import device

    folder = Path(sys.argv[1])
    about = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder / "model", num_labels=about["classes"]
    )
    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}

    def encode(rows: Any) -> Any:
        coded = tokenizer(rows["text"], truncation=True, max_length=about["max_length"])
        return {**coded, "labels": [int(label.removeprefix("c")) for label in rows["label"]]}

    with tempfile.TemporaryDirectory() as output:
        data = datasets.load_dataset("json", data_files=files, cache_dir=output)
        data = data.map(encode, batched=True, remove_columns=["text", "label"])
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
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
            ),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean(dtype=np.float64))},
        )
        trainer.train()
        print(json.dumps(trainer.evaluate()))


if __name__ == "__main__":
    main()
