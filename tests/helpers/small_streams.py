"""Streams and methods that are small enough to run in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STREAM = """
version = 1
kind = "{kind}"
summary = "a small synthetic stream"

[general]
source = "synthetic"

[language]
num_domains = 2
num_classes = 3
words_per_class = 8
num_documents = 120
num_general_documents = 200
num_held_out = 20
num_train = 24
num_validation = 12
num_test = 40

[base]
tokens = 10_240
batch = 8
length = 32
lr = 1e-3
precision = "fp32"

[pretrain]
tokens = 7_680
batch = 8
length = 32
lr = 1e-3
mask_fraction = 0.3
precision = "fp32"
held_out_tokens = 640

[finetune]
epochs = 2
lr = 1e-3
batch = 8
seeds = [0, 1]
max_length = 48
precision = "fp32"
"""


def write_stream(folder: Path, name: str = "small", kind: str = "domain", **replaced: str) -> Path:
    """Write the small stream and return its path; keyword arguments replace whole lines `KEY = VALUE`."""
    text = STREAM.format(kind=kind)
    for key, value in replaced.items():
        lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_method(folder: Path, body: str, name: str = "mine") -> Path:
    """Write a method file whose class holds `body` and return its path."""
    lines = [
        '"""Mine: a method for a test."""',
        "import torch",
        "from ctbench.method import Method, hyper",
        "class Mine(Method):",
        *(f"    {line}" for line in body.splitlines()),
    ]
    path = folder / f"{name}.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def spec_of(stream: Path, method: str = "naive", seed: int = 0, settings: Any = (), **options: Any) -> Any:
    """Return the expanded run of a method on a stream."""
    from ctbench.engine.expand import expand
    from ctbench.engine.inputs import read_inputs
    from ctbench.engine.job import Job

    return expand(read_inputs(Job(method=method, stream=stream, set=settings, **options)), seed)
