"""Measure the speed of this machine and of the engine."""

from __future__ import annotations

import sys
from pathlib import Path

from ctbench.api.answers import Measurement
from ctbench.api.texts import Names, names
from ctbench.errors import BadConfig


def bench(
    *,
    shape: Names = ("tiny", "22m"),
    method: Names = (),
    what: Names = ("all",),
    precision: Names = (),
    pairs: int = 5,
    seconds: float = 4.0,
    threads: int | None = None,
    compile: bool = False,
    scaling: bool = False,
    quick: bool = False,
    output: str | Path | None = None,
    progress: bool = True,
) -> Measurement:
    """Measure this machine, and the engine beside a Trainer and a bare loop.

    Args:
        shape: Shapes of models: tiny, 22m, roberta-base, roberta-base-512.
        method: Methods whose cost to measure at the first shape.
        what: Kinds of work: pretrain (beside a Trainer), overhead (beside a bare loop), cells, protocol (a whole run), all.
        precision: Arithmetic of both sides: fp32, bf16. Default: fp32, and bf16 where it is fast.
        pairs: Number of rounds; in each of them every side does its work once.
        seconds: Timed seconds of a side in a round.
        threads: CPU threads of each side. Default: all cores.
        compile: Measure compiled models too.
        scaling: Measure how cost grows with the work, instead.
        quick: With scaling: few and small cases.
        output: File to write JSON to; with scaling also a table and a picture.
        progress: Print on standard error what is being measured.

    Returns:
        The measurements; `plan` uses those of this machine.

    Raises:
        CTBenchError: a mistake in the call, or a file that cannot be written.
    """
    from ctbench.results.files import check_output

    path = None if output is None else Path(output)
    if path is not None:
        check_output(path)
    if quick and not scaling:
        raise BadConfig("--quick is for --scaling; --pairs and --seconds make a bench short")
    say = _say if progress else _ignore
    if scaling:
        from ctbench.speed.scaling import keep_scaling, measure_scaling

        document = measure_scaling(quick=quick, say=say)
        keep_scaling(document, path=path)
        return Measurement(document=document)
    from ctbench.engine.store import home
    from ctbench.speed.record import KINDS, Question, check_home, keep
    from ctbench.speed.record import bench as measure
    from ctbench.speed.shapes import find_shape

    question = Question(
        shapes=tuple(find_shape(name) for name in names(shape)),
        methods=names(method),
        what=KINDS if names(what) == ("all",) else names(what),
        precisions=names(precision),
        threads=threads,
        pairs=pairs,
        seconds=seconds,
        compiled=compile,
    )
    check_home(home())
    document = measure(question, say=say)
    keep(document, home=home(), path=path)
    return Measurement(document=document)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ignore(_line: str) -> None:
    pass
