"""The options of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard, get_args

from ctbench.data.override import METHOD, Overrides, read_overrides, write_setting
from ctbench.data.settings import Precision
from ctbench.engine.launchers.events import CHECKPOINT_SECONDS, MAX_WORKERS, Event
from ctbench.engine.ray.options import RayOptions, read_ray
from ctbench.engine.slurm.options import LAUNCHERS, SlurmOptions, read_slurm
from ctbench.errors import BadConfig, did_you_mean
from ctbench.results.folder import default_results

if TYPE_CHECKING:
    from ctbench.results.provenance import StudyRecord

Settings = Mapping[str, Any] | Sequence[str]
"""Settings to override, by key, or as texts KEY=VALUE."""
Numbers = int | str | Iterable[int]
ProgressOption = bool | str | Callable[[Event], None]
VERBOSE: Final = "verbose"
AUTO: Final = "auto"
PRECISIONS: Final = get_args(Precision)
MAX_RUNS: Final = 1000
MAX_DIGITS: Final = 1000
"""Python refuses to read numbers of more than 4,300."""
NUMBERS: Final = "a number from 0 on, a range such as 0..2, or several such as 0,1,5"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Runs of one method on one stream, which differ in seed and order: the options of `ctbench tune`, and a part of a `Study`.

    The text of each option below is its help on the command line and in Python.

    Args:
        method: Name of a method, or path of a .py file.
        stream: Name of a stream, or path of a .toml file.
        model: Backbone: tiny, tiny-causal, a Hugging Face id with @revision, or a folder. Default: the recipe's own.
        recipe: One of the stream's recipes. Default: the stream's default recipe.
        seed: Run seed, or several: 0..2 (both ends included), 0,1,5, or range(3) in Python. One run each.
        order: Order of the domains, or several, written as seeds are; 0 is the stream's own, others are permutations.
        reorder_periods: Let order permute periods of time too.
        set: Setting to override, as KEY=VALUE (repeatable), in Python {KEY: VALUE}; keys begin with
            method., pretrain., finetune., base., language. or stream.
        precision: Arithmetic of stages and cells: fp32, bf16 or auto. Default: the recipe's own.
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
        study: The study file that the job is part of, as its results name it.

    Raises:
        BadConfig: an option of the wrong type or out of its range.

    Examples:
        >>> job = Job(method="naive", stream="domain", seed="0..2", set={"pretrain.tokens": 1e6})
        >>> job.seeds, job.settings
        ((0, 1, 2), {'pretrain.tokens': '1000000.0'})
    """

    method: str | Path
    stream: str | Path
    model: str | Path | None = None
    recipe: str | None = None
    seed: Numbers = 0
    order: Numbers = 0
    reorder_periods: bool = False
    set: Settings = ()
    precision: str | None = None
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
    study: StudyRecord | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("method", "stream"):
            check_option(self, name, str | Path, "a name or a path")
        check_option(self, "model", str | Path | None, "a name, a path or None")
        check_option(self, "recipe", str | None, "a name or None")
        check_shared(self)
        if self.precision not in (None, *PRECISIONS):
            raise BadConfig(f"precision is {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        _ = self.seeds, self.orders, self.num_workers, self.cluster, self.overrides  # refuse what they cannot read

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The run seeds."""
        return read_numbers(self.seed, "seed")

    @cached_property
    def orders(self) -> tuple[int, ...]:
        """The orders of the domains."""
        return read_numbers(self.order, "order")

    @cached_property
    def num_workers(self) -> int | None:
        """The number of worker processes; None leaves it to the machine."""
        return read_workers(self.workers)

    @cached_property
    def cluster(self) -> SlurmOptions | RayOptions | None:
        """What is asked of the cluster; None if this machine computes."""
        return read_cluster(self)

    @cached_property
    def overrides(self) -> Overrides:
        """The settings to override, those of `precision` and `equal_compute` included."""
        found = read_overrides(self.set)
        tables = {}
        if self.precision is not None:
            tables = {f"{table}.precision": self.precision for table in ("pretrain", "finetune")}
        if self.equal_compute:
            tables["pretrain.equal_compute"] = "true"
        for key, text in tables.items():
            if (other := found.protocol.get(key, text)) != text:
                option = f"--precision {text}" if key.endswith("precision") else "--equal-compute"
                raise BadConfig(f"--set {key}={other}: contradicts {option}; leave one of them out")
        return dataclasses.replace(found, protocol={**found.protocol, **tables})

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the stream to override, by key, as texts."""
        return dict(self.overrides.protocol)

    @property
    def method_settings(self) -> dict[str, Any]:
        """The hyper-parameters to override, by name."""
        return dict(self.overrides.method)

    @property
    def results_folder(self) -> Path:
        """The folder of result files."""
        return default_results() if self.results is None else Path(self.results)

    def parts(self) -> list[Job]:
        """Return a job for each order: what `read_inputs` reads."""
        return [self if self.orders == (order,) else dataclasses.replace(self, order=order) for order in self.orders]

    def with_method_settings(self, settings: Mapping[str, Any]) -> Job:
        """Return the job with other hyper-parameters and everything else unchanged."""
        mine = {f"{METHOD}.{name}": write_setting(value) for name, value in settings.items()}
        protocol = read_overrides(self.set).protocol
        return dataclasses.replace(self, set={**protocol, **mine})


def read_numbers(given: object, name: str) -> tuple[int, ...]:
    """Read a number from 0 on, several of them, or a text such as 0..2,7; the ends of a range are included.

    Raises:
        BadConfig: anything else, or a number twice.

    Examples:
        >>> read_numbers("0..2,7", "seed"), read_numbers(range(2), "seed")
        ((0, 1, 2, 7), (0, 1))
    """
    numbers: list[Any]
    if isinstance(given, str):
        numbers = [number for part in given.split(",") for number in _read_range(part, given, name)]
    else:
        numbers = list(islice(given, MAX_RUNS + 1)) if isinstance(given, Iterable) else [given]
    if not numbers or any(not _is_whole(number) or number < 0 for number in numbers):
        raise BadConfig(f"{name} is {given!r}; expected {NUMBERS}")
    if len(numbers) > MAX_RUNS:
        raise BadConfig(f"{name} is {given!r}; expected at most {MAX_RUNS} numbers")
    if len({*numbers}) < len(numbers):
        raise BadConfig(f"{name} is {given!r}; each number may be given once")
    return tuple(int(number) for number in numbers)


def _read_range(text: str, whole: str, name: str) -> range:
    first, dots, last = text.strip().partition("..")
    ends = (first, last) if dots else (first,)
    if not all(end.isdecimal() and len(end) <= MAX_DIGITS for end in ends):
        raise BadConfig(f"{name} is '{whole}'; expected {NUMBERS}")
    numbers = range(int(first), int(last if dots else first) + 1)
    if not numbers:
        raise BadConfig(f"{name} is '{whole}'; expected {NUMBERS}")
    if numbers[-1] - numbers[0] >= MAX_RUNS:  # len() of a huge range overflows
        raise BadConfig(f"{name} is '{whole}'; expected at most {MAX_RUNS} numbers")
    return numbers


def read_workers(given: object) -> int | None:
    """Read a number of worker processes; "auto" (and None) is None.

    Raises:
        BadConfig: anything else.
    """
    if given is None or given == AUTO:
        return None
    is_text = isinstance(given, str) and given.isdecimal() and len(given) <= MAX_DIGITS
    number = int(given) if is_text else given  # type: ignore[call-overload]  # a text then
    if not _is_whole(number) or not 0 <= number <= MAX_WORKERS:
        raise BadConfig(f"workers is {given!r}; expected auto or a number from 0 to {MAX_WORKERS}")
    return int(number)


def read_cluster(options: Any) -> SlurmOptions | RayOptions | None:
    """Read what a `Job` or a `Study` asks of a cluster; None for the local launcher.

    Raises:
        BadConfig: an unknown launcher, or keys that the cluster does not have or that nobody would read.
    """
    launcher = options.launcher
    if launcher not in LAUNCHERS:
        guess = did_you_mean(str(launcher), LAUNCHERS)
        raise BadConfig(f"launcher is {launcher!r}{guess} allowed: {', '.join(LAUNCHERS)}")
    for name, owner in (("slurm", "slurm"), ("ray", "ray"), ("address", "ray")):
        if getattr(options, name) and launcher != owner:
            raise BadConfig(f"--{name} is for --launcher {owner}, which was not given")
    if options.device and launcher != "local":
        raise BadConfig(
            f"--device is for --launcher local; --{launcher} gpus=1 (or gpus=0) says where nodes are computed"
        )
    if launcher == "slurm":
        return read_slurm(options.slurm)
    return read_ray(options.ray, options.address) if launcher == "ray" else None


def check_shared(options: Any) -> None:
    """Refuse options of the wrong type that a `Job` and a `Study` share.

    Raises:
        BadConfig: the option, what was found and what was expected.
    """
    check_option(options, "results", str | Path | None, "a path or None")
    for name in ("device", "track", "address"):
        check_option(options, name, str | None, "a name or None")
    check_option(options, "log", str | Path | None, "a path or None")
    for name in ("reorder_periods", "control", "online", "fail_fast", "equal_compute"):
        check_option(options, name, bool, "True or False")
    if not (isinstance(options.progress, bool) or options.progress == VERBOSE or callable(options.progress)):
        raise BadConfig(
            f"progress is {options.progress!r}; expected True, False, '{VERBOSE}' or a function of an event"
        )
    _check_number("checkpoint_seconds", options.checkpoint_seconds)
    if options.max_loss is not None:
        _check_number("max_loss", options.max_loss)


def check_option(options: Any, name: str, wanted: Any, words: str) -> None:
    """Refuse an option of the wrong type.

    Raises:
        BadConfig: the option, what was found and what was expected.
    """
    value = getattr(options, name)
    if not isinstance(value, wanted):
        raise BadConfig(f"{name} is {value!r}; expected {words}")


def _check_number(name: str, value: object) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= float(value) < math.inf:  # type: ignore[arg-type]  # a number then
        raise BadConfig(f"{name} is {value!r}; expected a number from 0 on")


def _is_whole(number: object) -> TypeGuard[int]:
    return isinstance(number, Integral) and not isinstance(number, bool)
