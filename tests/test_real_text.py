"""The README's path to a user's own corpus, on the real text that CTBENCH_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ctbench.engine.job import Job
from ctbench.engine.run import run

DATA = os.environ.get("CTBENCH_DATA", "")

STREAM = """
kind = "domain"
summary = "three real domains"
root = "$CTBENCH_DATA/domain"
max_train = 48
max_test = 100
general = { source = "files", path = "acl/corpus.jsonl" }
[base]
tokens = 50_000
batch = 16
length = 64
lr = 2e-3
precision = "fp32"
threads = 1
[pretrain]
tokens = 16_000
batch = 16
length = 64
lr = 2e-3
precision = "fp32"
held_out_tokens = 1_000
[finetune]
epochs = 1
lr = 1e-3
seeds = [0]
max_length = 64
precision = "fp32"
"""
DOMAIN = """
[[domains]]
name = "{name}"
text = {{ source = "files", path = "{name}/corpus.jsonl" }}
[domains.task]
source = "files"
train = "{name}/train.jsonl"
test = "{name}/test.jsonl"
pair = "text_pair"
metric = "macro_f1"
"""


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="CTBENCH_DATA names no folder with the real text")
def test_three_real_domains_run_with_hyperprompt_and_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = tmp_path / "reviews.toml"
    stream.write_text(STREAM + "".join(DOMAIN.format(name=name) for name in ("restaurant", "phone", "camera")))
    job = Job(method="hyperprompt", stream=stream, results=tmp_path / "results", workers=0)
    (result,) = run(job, say=lambda _: None)
    assert result.matrix.shape == (4, 3)
    assert np.isfinite(result.matrix).all()
    assert (np.diagonal(result.lm_loss[1:]) < result.lm_loss[0]).all()
    text = next((tmp_path / "results").rglob("*.json")).read_text()
    assert str(Path(DATA).resolve()) not in text
