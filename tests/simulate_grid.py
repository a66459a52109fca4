"""Simulates large grids on many GPUs: the scheduling code that launches use, against a clock that nobody waits for.

    python tests/simulate_grid.py results/bench/grid.json docs/figures/grid.png

The graphs are those of real calls. Ray and a workstation are an `Agenda` and workers that take what it gives them; SLURM
is `make_shards` and `arrays`, and a queue that starts jobs in the order of their submission when what they wait for has
ended. Nodes take the times below; the CPU time of the scheduling code is measured.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
from fake_records import stage_record

from ctbench.engine.graph import read_runs
from ctbench.engine.job import Job
from ctbench.engine.launchers.agenda import Agenda, missing
from ctbench.engine.node import Node
from ctbench.engine.slurm.forecast import JOB_SECONDS
from ctbench.engine.slurm.shards import Shard, arrays, make_shards
from ctbench.engine.store import Store

GRIDS: Final = ((3, 5, 2), (10, 10, 5), (30, 20, 10))
"""Methods, domains and seeds."""
GPUS: Final = (1, 3, 10, 30, 100, 300, 1000)
SECONDS: Final = {"base": 0.0, "stage": 600.0, "loss": 15.0, "cell": 60.0}
"""Of a node on one GPU, the middle of half to one and a half times as much; about those of roberta-base."""
NODE_SECONDS: Final = 0.5
"""What a worker takes for a node beyond its work: the limit that measured launchers keep."""
MINUTES: Final = 10.0
"""`--slurm minutes`, as it is by default."""
OTHER_MINUTES: Final = (30.0, 60.0)
"""Others, for which the jobs are counted: a SLURM that nobody has configured holds 10,000 (`MaxJobCount`)."""
HEARTBEAT_SECONDS: Final = 5.0


def graph(methods: int, domains: int, seeds: int) -> tuple[list[Node], float]:
    """Return the nodes of a grid, parents first, and the CPU seconds that reading the call and making them took."""
    started = time.process_time()
    settings = {"language.num_domains": domains, "finetune.seeds": "[0]"}
    jobs = [
        Job(
            method="replay",
            stream="domain",
            seed=f"0..{seeds - 1}",
            set={**settings, "method.replay_fraction": (number + 1) / 100},
        )
        for number in range(methods)
    ]
    nodes = {node.key: node for run in read_runs(jobs) for node in run.nodes}
    with tempfile.TemporaryDirectory() as folder:
        todo = missing(nodes.values(), Store(Path(folder)))
    return todo, time.process_time() - started


def seconds_of(node: Node) -> float:
    return SECONDS[node.kind] * (0.5 + int(node.key[:8], 16) / 2**32)


def longest_chain(todo: Sequence[Node], seconds: dict[str, float]) -> float:
    ends: dict[str, float] = {}
    for node in todo:
        ends[node.key] = seconds[node.key] + max((ends.get(parent.key, 0.0) for parent in node.parents), default=0.0)
    return max(ends.values())


def on_workers(todo: Sequence[Node], seconds: dict[str, float], gpus: int) -> dict[str, Any]:
    """Compute with workers that take one node after the other, as Ray's and those of a workstation do."""
    started = time.process_time()
    agenda = Agenda(todo, listen=lambda _event: None)
    running: list[tuple[float, int, Node]] = []
    now, count = 0.0, itertools.count()
    while agenda.num_left:
        while len(running) < gpus and (node := agenda.take(num_busy=len(running))) is not None:
            heapq.heappush(running, (now + seconds[node.key] + NODE_SECONDS, next(count), node))
        now, _, node = heapq.heappop(running)
        agenda.finish(node)
    return {"makespan": now, "engine_seconds": time.process_time() - started}


def on_slurm(todo: Sequence[Node], seconds: dict[str, float], gpus: int) -> dict[str, Any]:
    """Compute with jobs of one GPU, started in the order of submission as soon as what they wait for has ended."""
    started = time.process_time()
    shards = make_shards(todo, seconds, minutes=MINUTES)
    groups = arrays(shards)
    engine = time.process_time() - started
    times = [JOB_SECONDS + sum(seconds[node.key] + NODE_SECONDS for node in shard.nodes) for shard in shards]
    end = last_end(shards, [number for numbers in groups for number in numbers], times, gpus)
    fewer = {
        f"jobs_of_{minutes:.0f}_minutes": len(make_shards(todo, seconds, minutes=minutes)) for minutes in OTHER_MINUTES
    }
    return {"makespan": end, "engine_seconds": engine, "jobs": len(shards), "arrays": len(groups), **fewer}


def last_end(shards: Sequence[Shard], order: Sequence[int], times: Sequence[float], gpus: int) -> float:
    place = {number: index for index, number in enumerate(order)}
    waiting = [len(shard.needs) for shard in shards]
    behind: list[list[int]] = [[] for _ in shards]
    for number, shard in enumerate(shards):
        for other in shard.needs:
            behind[other].append(number)
    ready = [(place[number], number) for number, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < gpus:
            number = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + times[number], number))
        now, done = heapq.heappop(running)
        for number in behind[done]:
            waiting[number] -= 1
            if not waiting[number]:
                heapq.heappush(ready, (place[number], number))
    return now


def store_operations() -> dict[str, int]:
    """Return how often the engine calls the file system for one node without weights, from its claim to its record."""
    counts = {"looks": 0, "reads and writes": 0}

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if hear.is_on and event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.scandir"):
            counts["reads and writes"] += "/node-store/" in str(args[0])

    hear.is_on = False  # type: ignore[attr-defined]
    sys.addaudithook(hear)
    with tempfile.TemporaryDirectory() as folder, looks_counted(counts):
        store, key = Store(Path(folder) / "node-store"), "0" * 64
        hear.is_on = True  # type: ignore[attr-defined]
        counts["looks"] = 0
        if not store.has(key):
            with store.claim(key), store.writing(key, stage_record()):
                pass
        store.has(key)  # of the command, when it hears that the node is done
        hear.is_on = False  # type: ignore[attr-defined]
        return dict(counts)


class looks_counted:
    """Counts calls of os.stat and os.lstat while its block runs."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts, self._kept = counts, (os.stat, os.lstat)

    def __enter__(self) -> None:
        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **more: Any) -> Any:
                self._counts["looks"] += "/node-store/" in str(path)
                return function(path, *args, **more)

            return call

        os.stat, os.lstat = map(counted, self._kept)

    def __exit__(self, *_: object) -> None:
        os.stat, os.lstat = self._kept


def rows() -> Iterator[dict[str, Any]]:
    operations = sum(store_operations().values())
    for shape in GRIDS:
        todo, planning = graph(*shape)
        seconds = {node.key: seconds_of(node) for node in todo}
        work, chain = sum(seconds.values()), longest_chain(todo, seconds)
        for gpus in GPUS:
            bound = max(chain, work / gpus)
            for launcher, simulate in (("ray", on_workers), ("slurm", on_slurm)):
                found = simulate(todo, seconds, gpus)
                each = {"methods": shape[0], "domains": shape[1], "seeds": shape[2], "nodes": len(todo), "gpus": gpus}
                each |= {
                    "launcher": launcher,
                    "planning_seconds": planning,
                    "work_seconds": work,
                    "chain_seconds": chain,
                }
                each |= {"bound_seconds": bound, "makespan_seconds": found.pop("makespan")}
                each["engine_seconds_per_node"] = found.pop("engine_seconds") / len(todo)
                busy = min(gpus, work / each["makespan_seconds"])
                rate = len(todo) * operations / each["makespan_seconds"]
                each["store_operations_per_second"] = rate + busy / HEARTBEAT_SECONDS
                yield {**each, **found}


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    colours = dict(zip(GRIDS, ("tab:green", "tab:blue", "tab:red"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for shape, colour in colours.items():
        mine = [row for row in found if (row["methods"], row["domains"], row["seeds"]) == shape]
        name = "{} methods x {} domains x {} seeds".format(*shape)
        for launcher, style in (("ray", "-"), ("slurm", ":")):
            some = [row for row in mine if row["launcher"] == launcher]
            gpus = [row["gpus"] for row in some]
            hours = [row["makespan_seconds"] / 3600 for row in some]
            label = f"{name}, {some[0]['nodes']:,} nodes" if launcher == "ray" else None
            axes[0].plot(gpus, hours, style, marker=".", color=colour, label=label)
            ratio = [row["makespan_seconds"] / row["bound_seconds"] for row in some]
            axes[1].plot(gpus, ratio, style, marker=".", color=colour)
    axes[0].set(xscale="log", yscale="log", xlabel="GPUs", ylabel="hours from the first start to the last end")
    axes[0].legend(fontsize=8, loc="upper right")
    axes[1].set(xscale="log", xlabel="GPUs", ylabel="times the bound: longest chain, or work / GPUs")
    axes[1].set_ylim(bottom=0.95)
    axes[1].plot([], [], "k-", label="workers that take one node after the other (Ray, local)")
    axes[1].plot([], [], "k:", label="jobs of SLURM, in the order of submission")
    axes[1].legend(fontsize=8)
    for each in axes:
        each.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Simulate, write the table, draw it."""
    table, picture = map(Path, sys.argv[1:3])
    found = []
    for row in rows():
        found.append(row)
        sys.stdout.write(
            f"{row['nodes']:7,} nodes {row['gpus']:5} GPUs {row['launcher']:5} {row['makespan_seconds'] / 3600:9.1f} h, "
            f"{row['makespan_seconds'] / row['bound_seconds']:.3f} of the bound, "
            f"{1e6 * row['engine_seconds_per_node']:6.0f} us per node, {row['store_operations_per_second']:6.1f} op/s, "
            f"{row.get('jobs', 0):6} jobs, planned in {row['planning_seconds']:.1f} s\n"
        )
        sys.stdout.flush()
    document = {
        "seconds": SECONDS,
        "node_seconds": NODE_SECONDS,
        "job_seconds": JOB_SECONDS,
        "minutes": MINUTES,
        "operations_per_node": store_operations(),
        "rows": found,
    }
    table.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    plot(found, picture)


if __name__ == "__main__":
    main()
