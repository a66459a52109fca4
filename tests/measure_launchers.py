"""Measures what launchers take beside the work of the nodes.

    python tests/measure_launchers.py results/bench/launchers.json docs/figures/launchers.png

First the same small grid by each launcher: of every node that a warm worker computes, the time from its start to its end
without the seconds of training and scoring that its record holds. Then planning, submission and status of grids of up to
5,000 nodes, with programs that play SLURM. SLURM is started here as the tests of `tests/cluster` do; a launcher that is not
there is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(ROOT / "helpers"), str(ROOT / "cluster")]

from controller import Controller  # noqa: E402
from simulate_grid import graph  # noqa: E402
from small_streams import write_stream  # noqa: E402

import ctbench  # noqa: E402
from ctbench.engine.launchers.agenda import Agenda, missing  # noqa: E402
from ctbench.engine.records import StoredBase, StoredStage  # noqa: E402
from ctbench.engine.slurm import follow  # noqa: E402
from ctbench.engine.slurm.folder import new_launch  # noqa: E402
from ctbench.engine.slurm.options import read_slurm  # noqa: E402
from ctbench.engine.slurm.queue import queue  # noqa: E402
from ctbench.engine.slurm.status import node_states  # noqa: E402
from ctbench.engine.store import Store  # noqa: E402

WORKERS: Final = 2
WARM: Final = 4
WARM_IN_JOB: Final = 2
"""Nodes of a worker after which it is warm: it has loaded libraries and data. A job has too few nodes to wait for four."""
LAUNCHERS: Final = {
    "local": {"workers": WORKERS},
    "ray": {"launcher": "ray", "address": "local", "workers": WORKERS},
    "slurm": {"launcher": "slurm", "slurm": {"cpus": WORKERS, "minutes": 60}},
}
SIZES: Final = ((2, 5, 3), (5, 10, 2), (10, 10, 4))
"""Methods, domains and seeds of the grids of which nothing is computed."""
LIMIT_SECONDS: Final = 0.5


def overheads(launcher: str, folder: Path) -> list[float]:
    """Return the seconds beside the work of every node that a warm worker of a launcher computed."""
    home = folder / launcher
    os.environ["CTBENCH_HOME"] = str(home)
    stream = write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    spans: list[dict[str, Any]] = []

    def hear(event: Any) -> None:
        spans.append({"what": event.what, "key": event.node.key, "time": time.time()})

    options = LAUNCHERS[launcher]
    ctbench.run(method="naive,replay", stream=stream, seed="0..2", results=folder / "results", progress=hear, **options)
    groups, warm = [spans], WORKERS * WARM
    if launcher == "slurm":  # every job starts workers of its own, and the command hears of them later
        paths = home.glob("launches/*/events/*.jsonl")
        groups = [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]
        warm = WORKERS * WARM_IN_JOB
    store = Store(home / "store")
    return [seconds for group in groups for seconds in beside_the_work(group, store, warm)]


def beside_the_work(spans: Sequence[dict[str, Any]], store: Store, warm: int) -> Iterator[float]:
    """Yield the seconds beside the work of the nodes that some workers computed after the first `warm`."""
    starts = {each["key"]: each["time"] for each in spans if each["what"] == "start"}
    ends = {each["key"]: each["time"] for each in spans if each["what"] == "done"}
    for key in sorted(starts, key=lambda key: starts[key])[warm:]:
        record = store.read(key)
        work = record.training.seconds if isinstance(record, StoredBase | StoredStage) else record.seconds
        yield ends[key] - starts[key] - work


@contextlib.contextmanager
def slurm_is_there() -> Iterator[bool]:
    """Start SLURM if its programs are installed and this is root."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        controller = Controller(Path(folder))
        try:
            controller.start()
        except (OSError, RuntimeError):
            yield False
            return
        os.environ.update(controller.environment)
        try:
            yield True
        finally:
            controller.stop()


SBATCH: Final = """#!/bin/sh
n=$(( $(cat {folder}/number 2>/dev/null || echo 0) + 1 ))
echo $n > {folder}/number
echo "Submitted batch job $n"
"""


def empty_grid(shape: tuple[int, int, int], folder: Path) -> dict[str, Any]:
    """Return the CPU seconds that planning, submitting and looking at a grid take, of which nothing is computed."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    for name, text in {
        "sbatch": SBATCH.format(folder=folder),
        "squeue": "#!/bin/sh\n",
        "scancel": "#!/bin/sh\n",
    }.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    todo, planning = graph(*shape)
    store = Store(folder / "store")
    started = cpu_seconds()
    launch = new_launch(folder, todo, {})
    agenda = Agenda(missing(todo, store), listen=lambda _event: None)
    options = read_slurm("minutes=10")
    seconds = dict.fromkeys((node.key for node in todo), 60.0)
    follower = follow.Follower(agenda, store, launch, options=options, seconds=seconds, say=lambda _line: None)
    kept, follow.time.sleep = time.sleep, interrupt  # type: ignore[assignment]  # Ctrl-C once everything is submitted
    try:
        follower.run()
    except KeyboardInterrupt:
        submission = cpu_seconds() - started
    finally:
        follow.time.sleep = kept
    started = cpu_seconds()
    states = node_states(launch, store, queue())
    assert len(states) == len(todo)
    jobs = len(launch.jobs())
    status = cpu_seconds() - started
    return {"nodes": len(todo), "jobs": jobs, "planning": planning, "submission": submission, "status": status}


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the programs that it has called."""
    return sum(os.times()[:4])


def interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    names = list(found["overhead"])
    left.boxplot([found["overhead"][name]["seconds"] for name in names], tick_labels=names, showfliers=False)
    left.axhline(LIMIT_SECONDS, color="tab:red", linestyle="--", linewidth=1)
    left.set(ylabel="seconds of a node beside its work", yscale="log")
    rows = found["empty"]
    for name in ("planning", "submission", "status"):
        right.plot([row["nodes"] for row in rows], [row[name] for row in rows], marker="o", label=name)
    right.set(xlabel="nodes of the grid, none of them computed", ylabel="CPU seconds")
    right.set_ylim(bottom=0)
    right.legend()
    for each in (left, right):
        each.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str]) -> None:
    """Measure, write, draw."""
    table, picture = map(Path, arguments)
    found: dict[str, Any] = {
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
        "overhead": {},
        "empty": [],
    }
    with tempfile.TemporaryDirectory() as folder, slurm_is_there() as has_slurm:
        for launcher in LAUNCHERS:
            if (launcher == "slurm" and not has_slurm) or (launcher == "ray" and not importlib.util.find_spec("ray")):
                continue
            seconds = sorted(overheads(launcher, Path(folder)))
            found["overhead"][launcher] = {"median": statistics.median(seconds), "seconds": seconds}
            sys.stdout.write(f"{launcher}: {statistics.median(seconds):.3f} s beside the work, {len(seconds)} nodes\n")
            sys.stdout.flush()
    for shape in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CTBENCH_HOME"] = folder
            found["empty"].append(empty_grid(shape, Path(folder)))
            sys.stdout.write(f"{found['empty'][-1]}\n")
            sys.stdout.flush()
    table.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(found, picture)


if __name__ == "__main__":
    main(sys.argv[1:])
