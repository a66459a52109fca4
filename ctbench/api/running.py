"""Run, plan and tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctbench.api.options import adds_job_options, takes_study
from ctbench.api.texts import Names, names
from ctbench.engine.job import Job
from ctbench.engine.study import Study
from ctbench.errors import BadConfig
from ctbench.machine.gpus import using_device

if TYPE_CHECKING:
    from ctbench.engine.forecast import Forecast
    from ctbench.results.schema import Result
    from ctbench.tuning.record import Tuning


@takes_study(Study)
def run(asked: Study) -> list[Result]:
    """Run methods on streams and write the results; what is in the store is not computed again.

    Args:
        asked: The options, as keyword arguments: those of `Study`.

    Returns:
        One result for each run: streams first, then models, recipes, settings, methods, orders and seeds.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed.
        RunFailed: nodes failed, and everything that does not need them was computed. Its `failures` name the nodes; its
            `results` are those of all runs, the incomplete ones included.

    Examples:
        >>> results = run(method="naive,replay", stream="domain", seed="0..2")  # doctest: +SKIP
        >>> results[0].matrix.shape  # doctest: +SKIP
        (6, 5)
    """
    from ctbench.engine.progress import following
    from ctbench.engine.run import run
    from ctbench.engine.tracking import tracked

    in_jobs = asked.cluster is not None and (asked.launcher == "slurm" or asked.num_workers is None)
    with (
        using_device(asked.device),
        following(asked.progress, log=asked.log, workers=asked.num_workers, in_jobs=in_jobs) as (listen, say),
        tracked(asked.jobs, listen, say) as heard,
    ):
        return run(asked.jobs, listen=heard, say=say)


@takes_study(Study)
def plan(asked: Study, *, gpus: int | None = None) -> Forecast:
    """Show what a run would compute, what the store has, and what the rest would take; nothing is computed.

    A machine that has no measured speeds yet is measured for about ten seconds; `CTBENCH_CALIBRATION=off` leaves it out.

    Args:
        asked: The options, as keyword arguments: those of `Study`.
        gpus: GPUs of the cluster that are free, for an estimate with --launcher slurm. Default: no limit.

    Returns:
        A row for each kind of node, and totals; options that change neither a number nor the time change nothing about it.

    Raises:
        CTBenchError: a mistake in the call.

    Examples:
        >>> plan(method="naive", stream="domain").num_nodes
        77
    """
    from ctbench.engine.forecast import forecast
    from ctbench.engine.logfile import check_log
    from ctbench.engine.progress import following
    from ctbench.engine.tracking import read_trackers

    read_trackers(asked.track, online=asked.online)
    if asked.log is not None:
        check_log(asked.log)
    with using_device(asked.device):
        found = forecast(asked.jobs, gpus=gpus)
        if not found.unknown or asked.cluster is not None:  # this machine says little about those of a cluster
            return found
        from ctbench.speed.calibrate import calibrate, is_wanted

        if not is_wanted():
            return found
        with following(asked.progress, log=asked.log) as (_, say):
            calibrate(found.unknown, say=say)
        return forecast(asked.jobs)


@adds_job_options(
    without=("method", "order", "reorder_periods", "control", "study", "track", "launcher", "slurm", "address", "ray")
)
def tune(
    *,
    method: Names = (),
    all: bool = False,
    trials: int = 12,
    language_seed: int | None = None,
    allow_reported: bool = False,
    **options: Any,
) -> list[Tuning]:
    """Try the values to tune of methods' hyper-parameters, judged on validation texts; no method is edited.

    Args:
        method: Names of methods, or paths of .py files.
        all: Tune every registered method, in the listed order.
        trials: Number of trials per method, its defaults included.
        language_seed: Language of a synthetic stream to tune on. Default: 7.
        allow_reported: Let a synthetic stream be tuned on its own language, the one that results report.
        **options: Options of a `Job`, except those that choose methods, orders, a control, a study, a tracker or a launcher.

    Returns:
        One tuning for each method; its objective is the mean over the run seeds.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed.
        RunFailed: nodes failed; their trials have no objective. The error's `results` are the tunings.
    """
    from ctbench.engine.progress import following
    from ctbench.plugins.find import find_plugins
    from ctbench.tuning.search import tune as search

    asked = names(method)
    if bool(asked) == all:
        raise BadConfig("give either --method NAME (once or more) or --all")
    methods = list(find_plugins("method")) if all else list(dict.fromkeys(asked))
    job = Job(method=methods[0], **options)
    with (
        using_device(job.device),
        following(job.progress, log=job.log, workers=job.num_workers) as (listen, say),
    ):
        return search(
            methods=methods,
            stream=str(job.stream),
            trials=trials,
            seeds=job.seeds,
            settings=job.settings,
            method_settings=job.method_settings,
            language_seed=language_seed,
            allow_reported=allow_reported,
            results=job.results_folder,
            workers=job.num_workers,
            listen=listen,
            say=say,
            model=job.model,
            recipe=job.recipe,
            online=job.online,
            fail_fast=job.fail_fast,
            checkpoint_seconds=job.checkpoint_seconds,
            max_loss=job.max_loss,
        )
