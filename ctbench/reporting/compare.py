"""Compare results: `ctbench compare` and `ctbench.compare`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctbench.errors import BadConfig, MissingResult, UnknownName, unwritable
from ctbench.machine.files import write_whole
from ctbench.reporting.groups import Choice, Group, group_results
from ctbench.reporting.labels import without_mark
from ctbench.reporting.latex import PREAMBLE, distinct, latex
from ctbench.reporting.leaderboard import Board, find_entry, make_board
from ctbench.reporting.records import board_record
from ctbench.reporting.scores import COSTS, Question
from ctbench.reporting.tables import Table, csv_text, markdown, plain_text, text_rows
from ctbench.reporting.transfer import Transfer, transfer_record, transfer_rows, transfer_table, transfers
from ctbench.reporting.views import contrast_table, leaderboard_parts, leaderboard_table
from ctbench.results.checks import MEANINGS
from ctbench.results.failures import no_results_line
from ctbench.results.files import OTHER_FILE, Loaded, check_output, read_results
from ctbench.results.schema import Result

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "markdown", "latex", "csv", "json")
SUFFIXES = {".txt": "table", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
VIEWS = ("leaderboard", "transfer")


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """A comparison of results; all tables are pure functions of the results.

    Args:
        groups: the results, grouped by table.
        question: metrics, tests and confidence.
        view: "leaderboard" or "transfer".
        hidden: one line for each kind of runs that are not shown.
        skipped: one line for each file that could not be read.
    """

    groups: tuple[Group, ...]
    question: Question
    view: str
    hidden: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        """The leaderboard of each group."""
        return tuple(_boards(self.groups, self.question))

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """The transfer tables of each group."""
        return tuple(each for group in self.groups for each in transfers(group, self.question))

    def tables(self, *, on_paper: bool = False) -> list[Table]:
        """Return the tables of the view; with `against` or `planned` the comparisons alone.

        Args:
            on_paper: split leaderboards into two tables that fit on a page, as in Markdown and LaTeX.
        """
        if self.view == "transfer":
            return [transfer_table(each) for each in self.transfers]
        if self.question.compares:
            return [contrast_table(board) for board in self.boards]
        parts = (leaderboard_parts(board) if on_paper else [leaderboard_table(board)] for board in self.boards)
        return [table for each in parts for table in each]

    def record(self) -> dict[str, Any]:
        """Return the comparison as JSON data: numbers in full precision, NaN as None."""
        found = (
            [transfer_record(each) for each in self.transfers]
            if self.view == "transfer"
            else [board_record(board) for board in self.boards]
        )
        return {"view": self.view, "tables": found, "hidden": list(self.hidden), "skipped": list(self.skipped)}

    def frame(self) -> pd.DataFrame:
        """Return the leaderboards as one pandas DataFrame: one row per method and settings, metrics in [0, 1].

        Examples:
            >>> found = compare_results("results", Choice(streams=("domain",)), Question())
            >>> int(found.frame().loc[0, "rank"])
            1
        """
        import pandas as pd

        header, *rows = self._rows()
        return pd.DataFrame(rows, columns=[str(name) for name in header])

    def render(self, form: str = "markdown", *, explain: bool = False, resize: bool = False) -> str:
        """Return the comparison as text.

        Args:
            form: "table" (plain text, unwrapped), "markdown", "latex", "csv" or "json".
            explain: add the definitions of metrics and findings (not in csv and json).
            resize: shrink tables of LaTeX that are wider than the text.

        Raises:
            UnknownName: the format does not exist.
        """
        if form == "json":
            return json.dumps(self.record(), allow_nan=False, indent=1) + "\n"
        if form == "csv":
            return csv_text(self._rows())
        drawers: dict[str, Callable[[Table], str]] = {
            "markdown": markdown,
            "latex": functools.partial(latex, resize=resize),
            "table": plain_text,
        }
        if form not in drawers:
            raise UnknownName("format", form, [*drawers, "csv", "json"])
        draw = drawers[form]
        tables = self.tables(on_paper=form != "table")
        tables += [explanation(self.question)] if explain else []
        return "\n".join([PREAMBLE, *map(draw, distinct(tables))] if form == "latex" else map(draw, tables))

    def save(self, path: str | Path, form: str | None = None, *, explain: bool = False, resize: bool = False) -> Path:
        """Write the comparison to a file, atomically.

        Args:
            path: the file; its ending says the form: .txt, .md, .tex, .csv or .json.
            form: the form for another ending.
            explain: as for `render`.
            resize: as for `render`.

        Raises:
            UnknownName: the form is unknown.
            BadConfig: the ending is unknown, or the file cannot be written.
        """
        path = Path(path)
        if form is None and path.suffix.lower() not in SUFFIXES:
            raise BadConfig(f"table '{path}': the name must end in {', '.join(SUFFIXES)}, or --format names the form")
        text = self.render(form or SUFFIXES[path.suffix.lower()], explain=explain, resize=resize)
        check_output(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        except OSError as error:
            raise BadConfig(unwritable(f"table '{path}'", error, OTHER_FILE)) from None
        return path

    def _rows(self) -> list[list[object]]:
        return transfer_rows(list(self.transfers)) if self.view == "transfer" else _board_rows(self.boards)

    def __repr__(self) -> str:
        return f"Comparison({self.view}: {', '.join(group.title for group in self.groups) or 'nothing to compare'})"

    def _repr_html_(self) -> str:
        from ctbench.reporting.notebook import tables_html

        return tables_html(self.tables())

    def __str__(self) -> str:
        left_out = (*(f"skipped {line}" for line in self.skipped), *self.hidden)
        return self.render("table") + "".join(f"{line}\n" for line in left_out)


def compare_results(
    results: str | Path | Sequence[Result],
    choice: Choice,
    question: Question,
    *,
    view: str = "leaderboard",
    strict: bool = False,
) -> Comparison:
    """Compare results; `ctbench.compare` makes choice and question from its options.

    Args:
        results: a folder of result files, or results.
        choice: the results to show.
        question: metrics, tests and confidence.
        view: "leaderboard" or "transfer" (per domain).
        strict: raise an error for a file that cannot be read instead of listing it in `skipped`.

    Raises:
        MissingResult: there is nothing to compare.
        UnknownName: a stream, method or view does not exist.
        BadConfig: the options do not fit together.
        BadResult: with `strict`, a file cannot be read.

    Examples:
        >>> comparison = compare_results("results", Choice(streams=("domain",)), Question(metrics=("F_Acc",)))
        >>> comparison.record()["tables"][0]["metrics"]
        ['F_Acc']
    """
    if view not in VIEWS:
        raise UnknownName("view", view, VIEWS)
    if view == "transfer" and question.compares:
        raise BadConfig("--against and --planned compare methods on the leaderboard; the view transfer has no tests")
    if choice.levels and (view == "transfer" or not choice.across):
        raise BadConfig("--levels shows means over the values of a key: name it with --across KEY, on the leaderboard")
    if isinstance(results, str | Path):
        loaded = read_results(results, strict=strict)
        place = str(results)
    else:
        loaded, place = Loaded(results=tuple(results), skipped=()), "the given list"
    if not loaded.results:
        raise MissingResult(no_results_line(place, loaded.skipped))
    groups, hidden = group_results(loaded.results, choice)
    _check_names(groups, loaded.results, question)
    return Comparison(groups=tuple(groups), question=question, view=view, hidden=tuple(hidden), skipped=loaded.skipped)


def _check_names(groups: Sequence[Group], results: Sequence[Result], question: Question) -> None:
    """Raise UnknownName for a method to compare with that is in no table, or where all runs are hidden of no run."""
    for name in [name for name in (question.against, *(question.planned or ())) if name is not None]:
        methods = {result.method.name for result in results}
        if not groups and name not in methods:
            raise UnknownName("method among the results", name, methods)
        errors = []
        for group in groups:
            try:
                find_entry(group, name)
            except UnknownName as error:
                errors.append(error)
        if groups and len(errors) == len(groups):
            labels = {entry.label for group in groups for entry in group.entries}
            raise UnknownName("method in these tables", name, labels)


def _boards(groups: Iterable[Group], question: Question) -> Iterable[Board]:
    for group in groups:
        names = {each for entry in group.entries for each in (entry.name, entry.label, without_mark(entry.label))}
        asked, notes = question, []
        if question.against is not None and question.against not in names:
            asked = replace(asked, against=None)
            notes.append(f"no comparison with {question.against}, which has no runs in this table")
        elif question.against is not None and len(group.entries) == 1:
            notes.append(f"no comparison: {question.against} is the only row of this table")
        if question.planned is not None and not set(question.planned) <= names:
            asked = replace(asked, planned=None)
            notes.append(f"no planned comparison: {' and '.join(question.planned)} are not both in this table")
        board = make_board(group, asked)
        yield replace(board, notes=(*notes, *board.notes))


def _board_rows(boards: Sequence[Board]) -> list[list[object]]:
    """Return a heading and one row per entry."""
    metrics = boards[0].question.metrics if boards else ()
    within = ("within",) if any(board.group.levels for board in boards) else ()
    parts = ("mean", "deviation", "low", "high", "rank", "last_rank", "partial", *within)
    against = ("against", "difference", "low", "high", "n", "p", "p_holm")
    contrasts = [contrast for board in boards for contrast in board.contrasts]
    compared = [name for name in metrics if any(contrast.metric.name == name for contrast in contrasts)]
    head = ["stream", "version", "backbone", "recipe", "precision", "protocol", "apart", "on", "method", "rank", "n"]
    score_names = [name if part == "mean" else f"{name}_{part}" for name in metrics for part in parts]
    kinds = {"vs": False, "planned": True}
    compared_names = [f"{name}_{kind}_{part}" for name in compared for kind in kinds for part in against]
    rows: list[list[object]] = [[*head, *score_names, *compared_names, "sd_between_runs", "sd_between_seeds", *COSTS]]
    rows[0] += ["traits", "findings", "first_date", "last_date"]
    for board in boards:
        record = board_record(board)
        shared = [record[key] for key in ("stream", "stream_version", "backbone", "recipe", "precision", "protocol")]
        for row in record["rows"]:
            scores = [row["scores"][name] for name in metrics]
            apart = "; ".join(record["why_apart"])
            line = [*shared, apart, record["on"], row["label"], scores[0]["rank"], row["n"]]
            for score in scores:
                line += [score["mean"], score["deviation"], score["low"], score["high"]]
                line += [score["rank"], score["last_rank"], score["is_partial"], *(score[name] for name in within)]
            for name, is_planned in product(compared, kinds.values()):
                wanted = (row["label"], name, is_planned)
                found = [c for c in record["comparisons"] if (c["first"], c["metric"], c["is_planned"]) == wanted]
                keys = ("second", "difference", "low", "high", "n", "p", "p_holm")
                line += [found[-1][key] if found else None for key in keys]
            spread = (row["spread"]["pretraining"], row["spread"]["finetuning"])
            line += [*spread, *row["cost"].values(), ", ".join(row["traits"]), "; ".join(row["findings"])]
            rows.append([*line, *row["dates"]])
    return rows


def explanation(question: Question) -> Table:
    """Return a table of the definitions of the metrics, with the findings as notes."""
    metrics = [question.metric(name) for name in question.metrics]
    rows = [(metric.name, metric.definition, metric.source) for metric in metrics]
    matrix = "R[i][j] is the score on task j after stage i; row 0 is the untouched LM, fine-tuned"
    if question.is_loss:
        matrix = (
            "L[i][j] is the held-out LM loss of domain j after stage i, in nats per predicted token; row 0: untouched"
        )
    return Table(
        title=f"Definitions: {matrix}",
        columns=("metric", "definition", "source"),
        rows=text_rows(rows),
        left=("definition", "source"),
        notes=tuple(f"finding {code}: {meaning}" for code, meaning in MEANINGS.items()),
        name="definitions",
    )
