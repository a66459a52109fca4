"""Run a method on a stream: expand the job, compute what is missing, assemble the result, write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ctbench.assemble import assemble, shown_model
from ctbench.data.schema import SyntheticText
from ctbench.data.sources import read_texts, single_document
from ctbench.data.stream import Stream
from ctbench.data.tasks import check_task
from ctbench.errors import BadData
from ctbench.expand import Expander
from ctbench.job import Job
from ctbench.launch import Event, launch, missing
from ctbench.results import Result, check_writable, results_folder, write_result
from ctbench.store import Store, home
from ctbench.workers import auto_workers

Listener = Callable[[Event], None]
MAX_CHECKED_DOCUMENTS = 200_000


def run(
    *,
    method: str,
    stream: str,
    seeds: Sequence[int] = (0,),
    results: str | Path = "results",
    workers: int | None = None,
    listen: Callable[[Sequence[Any]], Listener] | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> list[Result]:
    """Run a method on a stream and write one result per seed; what is in the store is not computed again.

    Args:
        method: name of a method, or path of a file.
        stream: name of a stream, or path of a TOML file.
        seeds: run seeds: the order of the text, the masks, what the method initialises.
        results: folder of result files.
        workers: processes; 0 computes in this one, None picks what suits the machine.
        listen: given the nodes to compute, returns what is told about every event.
        say: given a line about each result that was written.
        options: the other fields of `Job`: model, recipe, settings, method_settings, order, online, control...

    Raises:
        CTBenchError: a mistake in the call, before anything is computed, or a node that failed.

    Example:
        >>> quick = {"base.tokens": "2000", "pretrain.tokens": "2000", "finetune.epochs": "1"}
        >>> result = run(method="naive", stream="domain", settings=quick, workers=0)[0]  # doctest: +SKIP
        >>> result.matrix.shape  # doctest: +SKIP
        (6, 5)
    """
    expander = Expander(Job(method=method, stream=stream, **options))
    names = {"stream": expander.stream.name, "backbone": shown_model(expander.model), "method": expander.plugin.name}
    check_writable(results_folder(results, **names))
    runs = [expander.run(seed) for seed in seeds]
    store = Store(home() / "store")
    todo = missing([node for each in runs for node in each.nodes], store)
    if todo:
        check_data(expander.stream)
    count = auto_workers(todo) if workers is None else workers
    hear = listen(todo) if listen is not None and todo else _ignore
    launch(todo, store, home() / "corpora", workers=count, listen=hear)
    found = []
    for each in runs:
        result = assemble(each, expander, store)
        written = write_result(result, results)
        say(f"{written.status}: {written.path}")
        found.append(result)
    return found


def check_data(stream: Stream) -> None:
    """Read every end task and the beginning of every text, so that bad data is found before anything is computed.

    Texts of up to `MAX_CHECKED_DOCUMENTS` documents are read whole; a later fault in a longer one stops its packing.

    Raises:
        BadData: with file and line where there are some.
    """
    for domain in stream.domains:
        check_task(stream, domain)
    sources = [(domain.text, domain.name) for domain in stream.domains]
    sources += [(domain.held_out, domain.name) for domain in stream.domains if domain.held_out is not None]
    for source, name in [*sources, *([(stream.general, None)] if stream.general is not None else [])]:
        if not isinstance(source, SyntheticText):
            count = sum(1 for _ in islice(read_texts(stream, source, domain=name), MAX_CHECKED_DOCUMENTS))
            if count < 2 and not (name and stream.domain(name).held_out):
                raise BadData(single_document(name))


def _ignore(_event: Event) -> None:
    pass
