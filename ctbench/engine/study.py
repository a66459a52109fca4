"""The options of `ctbench run` and `ctbench plan`: several methods, streams, models, seeds, orders and settings at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.data.override import METHOD, pairs, write_setting
from ctbench.engine.job import (
    AUTO,
    MAX_RUNS,
    PRECISIONS,
    Job,
    Numbers,
    ProgressOption,
    Settings,
    check_option,
    check_shared,
    read_cluster,
    read_numbers,
    read_workers,
)
from ctbench.engine.launchers.events import CHECKPOINT_SECONDS
from ctbench.engine.sweep import points, read_choice, read_several
from ctbench.engine.tables import Table, merged, require
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.engine.ray.options import RayOptions
    from ctbench.engine.slurm.options import SlurmOptions
    from ctbench.results.provenance import StudyRecord

Several = str | Path | Sequence[Any]
"""One name or several: a list of them, or a text with commas."""
FROM_FILE: Final = {
    "method": "methods",
    "stream": "streams",
    "model": "models",
    "recipe": "recipes",
    "precision": "precisions",
    "seed": "seeds",
    "order": "orders",
}
"""Options, and the keys of a study file that they replace."""
OF_CALL: Final = (
    "equal_compute",
    "results",
    "device",
    "workers",
    "launcher",
    "slurm",
    "address",
    "ray",
    "online",
    "fail_fast",
    "checkpoint_seconds",
    "max_loss",
    "track",
    "progress",
    "log",
)
"""Options that no study file has: all jobs of a call share them."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs of several methods on several streams: the options of `ctbench run` and `ctbench plan`.

    The text of each option below is its help on the command line and in Python.

    Args:
        study: A study file: methods, streams, seeds and settings as TOML; options given beside it replace what it says.
        method: Methods: names, or paths of .py files; in Python also {"name": NAME, SETTING: VALUE}.
        stream: Streams: names, or paths of .toml files.
        model: Backbones: tiny, Hugging Face ids with @revision, or folders. Default: the recipe's own.
        recipe: Recipes of the streams. Default: each stream's default recipe.
        seed: Run seeds: 3, 0..2 (both ends included), 0,1,5, or range(3) in Python. Default: 0.
        order: Orders of the domains, written as seeds are. Default: 0, the stream's own; others are permutations.
        reorder_periods: Let order permute periods of time too.
        set: Setting to override, as KEY=VALUE (repeatable), in Python {KEY: VALUE}. Keys begin with pretrain.,
            finetune., base., language. or stream., with method. for the methods that have the setting, or with the name
            of one method. A list tries each of its values.
        precision: Arithmetic of stages and cells: fp32, bf16 or auto, or several. Default: the recipe's own.
        equal_compute: Give every stage as many FLOPs as naive's has, and not as many tokens; a protocol of its own.
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.
        device: Where to compute: cpu, cuda, cuda:1 (the second GPU) or mps. Default: a GPU if there is one.
        workers: Number of worker processes; 0 computes in this process, auto picks a number that suits the machine.
        launcher: Who computes: local (worker processes of this machine), slurm (jobs of a cluster) or ray (workers of a Ray
            cluster).
        slurm: What to ask of SLURM for every job, as KEY=VALUE,KEY=VALUE, in Python {KEY: VALUE}: partition, account,
            qos, time, gpus, cpus, mem, constraint, exclude, nodelist, setup, minutes, grace, tries.
        address: Address of the Ray cluster: auto (that of this machine), HOST:PORT, or local (started for this call).
            Default: RAY_ADDRESS, else auto.
        ray: What to ask of Ray for every worker, as KEY=VALUE,KEY=VALUE, in Python {KEY: VALUE}: gpus (fractions too),
            cpus, mem.
        control: Also score a control: the base model pre-trained for the same number of tokens on general text.
        online: Allow ctbench to download models and data.
        fail_fast: Stop at the first failure; without it, everything that does not need what failed is computed.
        checkpoint_seconds: Seconds between two checkpoints of a stage; 0 saves one at every logged point.
        max_loss: Stop a stage whose training loss, mean of ten updates, is above this number. Default: no limit.
        track: Experiment trackers to send losses and scores to: tensorboard, wandb, trackio or mlflow, or several.
        progress: Show progress on standard error: True, False, "verbose", or a function that is called with every event.
        log: File to append a full log to, with times.

    Raises:
        BadConfig: an option of the wrong type or out of its range.
        UnknownName: a method that does not exist, or a setting that it does not have.

    Examples:
        >>> study = Study(method="naive,replay", stream="domain", seed="0..2", set={"method.replay_fraction": [0.1, 0.5]})
        >>> [(job.method, job.method_settings) for job in study.jobs]
        [('naive', {}), ('replay', {'replay_fraction': 0.1}), ('replay', {'replay_fraction': 0.5})]
    """

    study: str | Path | None = field(default=None, kw_only=False)
    method: Several = ()
    stream: Several = ()
    model: Several | None = None
    recipe: Several | None = None
    seed: Numbers | None = None
    order: Numbers | None = None
    reorder_periods: bool = False
    set: Settings = ()
    precision: Several | None = None
    equal_compute: bool = False
    results: str | Path | None = None
    device: str | None = None
    workers: int | str | None = AUTO
    launcher: str = "local"
    slurm: Settings = ()
    address: str | None = None
    ray: Settings = ()
    control: bool = False
    online: bool = False
    fail_fast: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    max_loss: float | None = None
    track: str | None = None
    progress: ProgressOption = field(default=True, repr=False, compare=False)
    log: str | Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_option(self, "study", str | Path | None, "the path of a study file or None")
        check_shared(self)
        _ = self.jobs  # refuse what cannot be read

    @cached_property
    def num_workers(self) -> int | None:
        """The number of worker processes; None leaves it to the machine."""
        return read_workers(self.workers)

    @cached_property
    def cluster(self) -> SlurmOptions | RayOptions | None:
        """What is asked of the cluster; None if this machine computes."""
        return read_cluster(self)

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """A job for each stream, model, recipe, precision, method and combination of settings, in this order."""
        _ = self.num_workers, self.cluster
        given, record = self._given(), None
        if self.study is None:
            tables = [require(Table(**{"methods": (), "streams": (), **given}))]
        else:
            from ctbench.engine.studyfile import read_study

            found = read_study(self.study)
            record = self._record(found.name, found.digest, given)
            tables = list(map(require, merged(found, given)))
        most = sum(table.num_runs for table in tables)
        if most > MAX_RUNS:
            raise BadConfig(f"{most:,} runs are asked for; expected at most {MAX_RUNS:,} in one call")
        return tuple(job for table in tables for job in self._jobs(table, record))

    def _given(self) -> dict[str, Any]:
        """Return what the options say of a table."""
        found: dict[str, Any] = {}
        if choices := tuple(map(read_choice, read_several(self.method, "method"))):
            found["methods"] = _distinct("method", choices)
        for name in ("stream", "model", "recipe", "precision"):
            if names := tuple(map(str, read_several(getattr(self, name), name))):
                found[FROM_FILE[name]] = _distinct(name, names)
        for precision in found.get("precisions", ()):
            if precision not in PRECISIONS:
                raise BadConfig(f"precision is '{precision}'; allowed: {', '.join(PRECISIONS)}")
        for name in ("seed", "order"):
            if getattr(self, name) is not None:
                found[FROM_FILE[name]] = read_numbers(getattr(self, name), name)
        found |= {name: True for name in ("reorder_periods", "control") if getattr(self, name)}
        settings = dict(pairs(self.set))
        return found | ({"set": settings} if settings else {})

    def _record(self, name: str, digest: str, given: Mapping[str, Any]) -> StudyRecord:
        from ctbench.results.provenance import StudyRecord

        options = {key: option for option, key in FROM_FILE.items()}
        changed = [options.get(key, key) for key in given] + ["equal_compute"] * self.equal_compute
        return StudyRecord(name=name, digest=digest, changed=tuple(sorted(changed)))

    def _jobs(self, table: Table, record: StudyRecord | None) -> Iterator[Job]:
        settings = table.settings
        shared = {name: getattr(self, name) for name in OF_CALL}
        protocols = itertools.product(
            table.streams, table.models, table.recipes, table.precisions, points(settings.protocol)
        )
        for stream, model, recipe, precision, protocol in protocols:
            for choice, values in zip(table.methods, settings.methods, strict=True):
                for point in points(values):
                    mine = {f"{METHOD}.{name}": write_setting(value) for name, value in point.items()}
                    yield Job(
                        method=choice.place,
                        stream=stream,
                        model=model,
                        recipe=recipe,
                        seed=table.seeds,
                        order=table.orders,
                        reorder_periods=table.reorder_periods,
                        set={**protocol, **mine},
                        precision=precision,
                        control=table.control,
                        study=record,
                        **shared,
                    )


def _distinct(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise BadConfig(f"--{name} names {getattr(value, 'place', value)} twice; once is enough")
    return values
