"""Export the LM of a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.api.finding import show
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.exporting.write import Exported
    from ctbench.results.schema import Result


def export(
    run: str | Path | Result,
    *,
    output: str | Path,
    row: int | None = None,
    context: str | None = None,
    results: str | Path | None = None,
    method: str | Path | None = None,
    stream: str | Path | None = None,
    model: str | Path | None = None,
    online: bool = False,
) -> Exported:
    """Write the LM of a row as a Hugging Face checkpoint with its tokenizer and a model card; the store must hold it.

    Args:
        run: Path of a result file, or first characters of its key; in Python also a result.
        output: Folder to write, new or empty.
        row: Row of the matrix; 0 is the base. Default: the last one.
        context: Domain, or file of text, that a conditional LM is baked for, or that chooses among the LMs of a row.
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.
        method: Path of the method's file, if the method is not registered.
        stream: Path of the stream's file, if the stream is not registered.
        model: Folder of the run's model, if it was a folder.
        online: Allow ctbench to download the run's model.

    Returns:
        The folder, with the class that loads it. The written checkpoint was loaded, and its outputs compared.

    Raises:
        CTBenchError: there is no such row, the store lacks its LM, or a checkpoint cannot hold it, and why.

    Examples:
        >>> export("results/domain/tiny/naive", output="mine")
        Traceback (most recent call last):
        ...
        ctbench.errors.BadConfig: 'results/domain/tiny/naive' names 3 results; export takes one
    """
    from ctbench.results.schema import Result

    found = [run] if isinstance(run, Result) else show([str(run)], results=results)
    if len(found) != 1:
        raise BadConfig(f"'{run}' names {len(found)} results; export takes one")
    from ctbench.exporting.source import Request
    from ctbench.exporting.write import export

    return export(
        Request(result=found[0], row=row, context=context, method=method, stream=stream, model=model, online=online),
        output,
    )
