"""Verify somebody's result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.api.finding import show
from ctbench.engine.job import AUTO, ProgressOption, read_workers
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.results.schema import Result
    from ctbench.verification.verdict import Verification


def verify(
    run: str | Path | Result,
    *,
    nodes: int = 3,
    seed: int | None = None,
    given: str | Path | None = None,
    results: str | Path | None = None,
    method: str | Path | None = None,
    stream: str | Path | None = None,
    model: str | Path | None = None,
    device: str | None = None,
    workers: int | str | None = AUTO,
    online: bool = False,
    progress: ProgressOption = True,
) -> Verification:
    """Compute a few nodes of somebody's result again, in a store of their own, and say whether they agree.

    Args:
        run: Path of a result file, or first characters of its key; in Python also a result.
        nodes: Number of scores and losses to compute again; the stages that they need are trained again too.
        seed: Which nodes are drawn. Default: a new draw each time, which is printed.
        given: Folder of LMs that ctbench export wrote of the result, in place of training its stages again.
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.
        method: Path of the method's file, if the method is not registered.
        stream: Path of the stream's file, if the stream is not registered.
        model: Folder of the run's model, if it was a folder.
        device: Where to compute: cpu, cuda, cuda:1 (the second GPU) or mps. Default: cpu if the result names no GPU.
        workers: Number of worker processes; 0 computes in this process, auto picks a number that suits the machine.
        online: Allow ctbench to download models and data.
        progress: Show progress on standard error: True, False, "verbose", or a function that is called with every event.

    Returns:
        What was found: `agrees`, `verdict()`, `checks`, `table()` and `record()`.

    Raises:
        CTBenchError: a mistake in the call: the method, the stream or the model cannot be found, for example.
        RunFailed: nodes could not be computed.

    Examples:
        >>> verify("results/domain/tiny/naive")
        Traceback (most recent call last):
        ...
        ctbench.errors.BadConfig: 'results/domain/tiny/naive' names 3 results; verify takes one
    """
    from ctbench.results.schema import Result

    found = [run] if isinstance(run, Result) else show([str(run)], results=results)
    if len(found) != 1:
        raise BadConfig(f"'{run}' names {len(found)} results; verify takes one")
    from ctbench.engine.progress import following
    from ctbench.machine.gpus import using_device
    from ctbench.verification.claims import was_on_gpu
    from ctbench.verification.verify import Request, verify

    (result,) = found
    request = Request(
        result=result,
        nodes=nodes,
        seed=seed,
        given=given,
        method=method,
        stream=stream,
        model=model,
        online=online,
        workers=workers,
    )
    chosen = device if device is not None or was_on_gpu(result) else "cpu"
    with using_device(chosen), following(progress, workers=read_workers(workers)) as (listen, say):
        return verify(request, listen=listen, say=say)
