"""Runs several ranks in a test, and compares what they found with what one process finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

CLOSE = 1e-5
SAME_WEIGHTS = 2e-4
"""A fifth of the way of one update: Adam enlarges the rounding of gradients that are nearly 0."""


def train_with_ranks(folder, size, names, *, script="rank_stages.py"):
    """Return what the first of several ranks found, by name of the trial."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, str(Path(__file__).parent / script), str(folder), ",".join(names)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    for name, trial in found.items():
        for number, stage in enumerate(trial.get("stages", ())):
            stage["weights"] = load_file(folder / f"{name}-{number}.safetensors")
    return found


def largest_difference(one, other, what):
    """Return how far two trainings are apart in their losses or their weights."""
    pairs = [
        (np.asarray(first[what][name]), np.asarray(second[what][name]))
        for first, second in zip(one["stages"], other["stages"], strict=True)
        for name in first[what]
    ]
    assert [first[what].keys() for first in one["stages"]] == [second[what].keys() for second in other["stages"]]
    return max(float(np.abs(first - second).max(initial=0.0)) for first, second in pairs)


def assert_alike(found, wanted):
    assert largest_difference(found, wanted, "losses") < CLOSE
    assert largest_difference(found, wanted, "weights") < SAME_WEIGHTS
    assert [stage["tokens"] for stage in found["stages"]] == [stage["tokens"] for stage in wanted["stages"]]
