"""How long `ctbench compare` takes: `python tests/reporting/measure_compare.py [NUMBER]`. Not part of the tests.

Copies the committed results of two streams with other seeds and noise into a temporary folder, and prints the CPU time of
each command, of three calls the fastest: wall time says little on a machine that does other work.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ctbench.results.metrics import all_metrics

ROOT = Path(__file__).parents[2]
STREAMS = ("domain", "temporal")
CALLS = (["compare"], ["compare", "--against", "naive"], ["compare", "--view", "transfer"], ["ls", "runs"])


def copy_results(folder: Path, number: int) -> None:
    """Write `number` results into a folder: copies with other seeds and with noise on the scores below row 0."""
    paths = sorted(path for stream in STREAMS for path in (ROOT / "results" / stream).rglob("*.json"))
    random = np.random.default_rng(0)
    for index in range(number):
        path = paths[index % len(paths)]
        record = json.loads(path.read_text())
        record["seed"] += 100 * (index // len(paths))
        record["key"] = hashlib.sha256(f"{index}".encode()).hexdigest()
        matrix, domains = record["matrix"], record["stream"]["domains"]
        noise = random.normal(0, 0.01, size=(len(matrix), len(domains))).tolist()
        for row in range(1, len(matrix)):
            matrix[row] = [_noisy(score, noise[row][place]) for place, score in enumerate(matrix[row])]
        for cell in record["cells"]:
            if cell["row"]:
                cell["score"] = _noisy(cell["score"], noise[cell["row"]][domains.index(cell["domain"])])
        record["metrics"] = all_metrics(np.array(matrix, dtype=float))
        copy = folder / path.relative_to(ROOT / "results").with_name(f"{record['key'][:16]}.json")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(record))


def _noisy(score: float | None, noise: float) -> float | None:
    return None if score is None else min(1.0, max(0.0, score + noise))


def cpu_seconds(args: list[str], folder: Path) -> float:
    """Return the CPU seconds of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CTBENCH_HOME": str(folder / "home")}
    subprocess.run([sys.executable, "-m", "ctbench", *args], env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line for each call."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_results(folder / "results", number)
        for args in CALLS:
            fastest = min(cpu_seconds([*args, "--results", str(folder / "results")], folder) for _ in range(3))
            print(f"ctbench {' '.join(args)}, {number} results: {fastest:.2f} s of CPU time")


if __name__ == "__main__":
    main()
