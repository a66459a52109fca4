"""Tables, pictures and the page of results: compare, plot, report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.api.finding import show
from ctbench.api.texts import Names, names
from ctbench.errors import BadConfig, MissingResult, Notice
from ctbench.results.folder import default_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ctbench.reporting.compare import Comparison
    from ctbench.reporting.groups import Choice
    from ctbench.results.schema import Result

Results = str | Path | Sequence["Result"]


def compare(
    results: Results | None = None,
    *,
    stream: Names = (),
    method: Names = (),
    metric: Names = (),
    on: str = "score",
    columns: Names = (),
    sort: str = "",
    against: str | None = None,
    planned: str | tuple[str, str] | None = None,
    view: str = "leaderboard",
    across: str = "",
    levels: bool = False,
    confidence: float = 0.95,
    partial: bool = False,
    all: bool = False,
    strict: bool = False,
) -> Comparison:
    """Compare results: one leaderboard per stream and protocol, or what each domain gained and lost.

    Args:
        results: Folder of result files; in Python also a list of results. Default: results; in a checkout of
            ctbench my-results.
        stream: Only these streams.
        method: Only these methods.
        metric: Metrics to show; the first one orders and ranks the rows. Default: as many of six as fit.
        on: Matrix that the metrics are of: score, or loss (held-out LM loss, lower is better).
        columns: Further columns: figures, standing, variance, cost, traits, findings, dates, the name of a figure (such as
            general) or of a cost, or all.
        sort: Metric, figure or cost that orders the rows, such as general or flops. Default: the first metric.
        against: Compare every method with this one, Holm-corrected, and show nothing else.
        planned: Test one comparison declared beforehand, A:B, without correction, and show nothing else.
        view: Tables to make: leaderboard, or transfer (per domain).
        across: Key of the recipe or the language, such as pretrain.schedule, or order: runs that differ in it alone side by
            side.
        levels: With across: one row per method, means over the key's values, which are the unit of intervals and tests.
        confidence: Confidence of the intervals, in [0.5, 1); 1 - confidence is the level of the tests.
        partial: Take means over incomplete sets, and mark them.
        all: Show runs that are not comparable too, in tables of their own.
        strict: Refuse result files that cannot be used.

    Returns:
        A comparison; print it, or use `.frame()`, `.render("latex")`, `.save("table.tex")` or `.record()`.

    Raises:
        MissingResult: there is nothing to compare.
        UnknownName: no such stream, method, metric, column or entry.
        BadConfig: a comparison that cannot be made.
        BadResult: with `strict`, for a file that cannot be used.

    Examples:
        >>> comparison = compare("results", metric="F_Acc", against="naive")
        >>> comparison.record()["tables"][0]["metrics"]
        ['F_Acc']
    """
    from ctbench.reporting.compare import compare_results
    from ctbench.reporting.groups import Choice
    from ctbench.reporting.scores import Question, read_planned

    if view == "transfer" and (metric or columns or sort):
        raise BadConfig(
            "--metric, --columns and --sort are of the leaderboard; the view transfer has columns of its own"
        )
    choice = Choice(streams=names(stream), methods=names(method), everything=all, across=across, levels=levels)
    question = Question(
        metrics=names(metric),
        on=on,
        columns=names(columns),
        sort=sort,
        against=against,
        planned=None if planned is None else read_planned(planned),
        partial=partial,
        confidence=confidence,
    )
    return compare_results(_or_default(results), choice, question, view=view, strict=strict)


def plot(
    results: Results | None = None,
    *,
    run: Names = (),
    kind: str = "matrix",
    stream: str | None = None,
    method: Names = (),
    metric: str = "anytime",
    cost: str = "forward_tokens",
    on: str = "score",
    output: str | Path | None = None,
    all: bool = False,
    strict: bool = False,
) -> Figure:
    """Draw the results of one stream; several runs of a method are averaged.

    Args:
        results: Folder of result files; in Python also a list of results. Default: results; in a checkout of
            ctbench my-results.
        run: Paths of result files, or first characters of their keys.
        kind: Kind of picture: matrix, difference, anytime, transfer, cost, loss, general,
            stability or training.
        stream: Stream to draw.
        method: Only these methods, in this order.
        metric: Metric of kind cost.
        cost: Cost of kind cost: tokens, forward_tokens, flops, seconds, cpu_seconds, peak_memory_bytes,
            added_parameters or stored_bytes.
        on: Matrix to draw: score, or loss (held-out LM loss).
        output: File to write: .png, .svg or .pdf.
        all: Draw runs that are not comparable too; they must share one protocol.
        strict: Refuse result files that cannot be used.

    Returns:
        A matplotlib figure, whose label is the name of a file without its ending.

    Raises:
        MissingResult: there is nothing to draw, or runs that one picture cannot show.
        UnknownName: no such kind, stream, method, metric or cost.
        BadConfig: a file that cannot be written.

    Examples:
        >>> plot("results/domain", kind="anytime", method="naive,replay").get_label()
        'domain-anytime'
    """
    from ctbench.reporting.plots.figure import make_figure
    from ctbench.reporting.plots.style import check_suffix, save
    from ctbench.results.writing import slug

    if output is not None:
        check_suffix(Path(output))
    from ctbench.reporting.groups import Choice

    if kind != "cost" and (metric, cost) != ("anytime", "forward_tokens"):
        raise BadConfig(f"--metric and --cost are of the picture --kind cost; asked for was {kind}")
    choice = Choice(streams=() if stream is None else names(stream), methods=names(method), everything=all)
    drawn = _choose(_or_default(results), run=names(run), choice=choice, strict=strict)
    figure = make_figure(drawn, kind=kind, metric=metric, cost=cost, on=on)
    of = "-loss" if on == "loss" and kind not in ("loss", "training") else ""
    figure.set_label(f"{slug(drawn[0].stream.name)}-{kind}{of}")
    if output is not None:
        save(figure, output)
    return figure


def report(
    results: Results | None = None,
    *,
    output: str | Path = "report.html",
    stream: Names = (),
    method: Names = (),
    metric: Names = (),
    partial: bool = False,
    all: bool = False,
    strict: bool = False,
) -> Path:
    """Write one HTML page with leaderboards, curves, matrices, costs, settings and provenance; it needs no network.

    Args:
        results: Folder of result files; in Python also a list of results. Default: results; in a checkout of
            ctbench my-results.
        output: File to write.
        stream: Only these streams.
        method: Only these methods.
        metric: Columns; the first one orders and ranks the rows.
        partial: Take means over incomplete sets, and mark them.
        all: Show runs that are not comparable too, in tables of their own.
        strict: Refuse result files that cannot be used.

    Returns:
        The path of the file.

    Raises:
        CTBenchError: as for `compare`, or a file that cannot be written.
    """
    from ctbench.reporting.page.html import SUFFIXES, write_report
    from ctbench.results.files import check_output

    if not Path(output).is_dir() and Path(output).suffix.lower() not in SUFFIXES:
        raise BadConfig(f"report '{output}': the name must end in {' or '.join(SUFFIXES)}")
    check_output(output)
    comparison = compare(results, stream=stream, method=method, metric=metric, partial=partial, all=all, strict=strict)
    _notify([*(f"skipped {line}" for line in comparison.skipped), *comparison.hidden])
    return write_report(comparison, output)


def _or_default(results: Results | None) -> Results:
    return default_results() if results is None else results


def _choose(results: Results, *, run: Sequence[str], choice: Choice, strict: bool) -> Sequence[Result]:
    """Return the results to draw: those that are named, those given, or those of one table."""
    from ctbench.reporting.groups import group_results
    from ctbench.reporting.plots.figure import choose_group
    from ctbench.results.failures import no_results_line
    from ctbench.results.files import Loaded, read_results

    if run:
        if choice.streams or choice.methods or choice.everything:
            raise BadConfig("runs are named, or chosen by --stream, --method and --all: give one or the other")
        return show(run, results=results if isinstance(results, str | Path) else None)
    if not isinstance(results, str | Path) and not (choice.streams or choice.methods):
        if not results:
            raise MissingResult("there is no result to draw")
        return results
    if isinstance(results, str | Path):
        loaded = read_results(results, strict=strict)
        if not loaded.results:
            raise MissingResult(no_results_line(str(results), loaded.skipped))
    else:
        loaded = Loaded(results=tuple(results), skipped=())
    groups, hidden = group_results(loaded.results, choice)
    _notify([*(f"skipped {line}" for line in loaded.skipped), *hidden])
    found = choose_group(groups, choice.methods)
    drawn, name = {id(result) for result in found}, found[0].stream.name
    others = [group for group in groups if group.results[0].stream.name == name and id(group.results[0]) not in drawn]
    _notify([f"not drawn: {group.title}" for group in others])
    return found


def _notify(lines: Sequence[str]) -> None:
    for line in lines:
        warnings.warn(line, Notice, stacklevel=3)
