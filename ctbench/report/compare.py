"""Compare results: what `ctbench compare` prints and `ctbench.compare` returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.metrics import METRICS
from ctbench.report.groups import Choice, Group, group_results
from ctbench.report.leaderboard import COSTS, DEFAULT_METRICS, Board, Question, find_entry, make_board
from ctbench.report.tables import Cell, Table, csv_text, latex, markdown, terminal
from ctbench.report.transfer import Transfer, transfer_record, transfer_rows, transfer_table, transfers
from ctbench.report.views import board_record, contrast_table, leaderboard_parts, leaderboard_table
from ctbench.results import Loaded, read_results
from ctbench.sanity import MEANINGS
from ctbench.schema import Result

if TYPE_CHECKING:
    import pandas as pd

Names = str | Sequence[str]
FORMATS = ("table", "markdown", "latex", "csv", "json")
VIEWS = ("leaderboard", "transfer")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Tables of results, each a pure function of them.

    Args:
        groups: what may share a table.
        question: what was asked.
        view: "leaderboard" or "transfer".
        hidden: one line for each kind of runs that are left out.
        skipped: one line for each file that could not be used.
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
        """Return the tables of the view, as they are printed.

        Args:
            on_paper: leaderboards in two parts that fit onto a page, as in Markdown and LaTeX.
        """
        if self.view == "transfer":
            return [transfer_table(each) for each in self.transfers]
        found: list[Table | None] = []
        for board in self.boards:
            found += leaderboard_parts(board) if on_paper else [leaderboard_table(board)]
            found.append(contrast_table(board))
        return [table for table in found if table is not None]

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON data in full precision, NaN as None."""
        found = (
            [transfer_record(each) for each in self.transfers]
            if self.view == "transfer"
            else [board_record(board) for board in self.boards]
        )
        return {"view": self.view, "tables": found, "hidden": list(self.hidden), "skipped": list(self.skipped)}

    def frame(self) -> pd.DataFrame:
        """Return the leaderboards as one pandas DataFrame: a row per entry, metrics in [0, 1].

        Example:
            >>> int(compare("results", stream="domain").frame().loc[0, "rank"])
            1
        """
        import pandas as pd

        header, *rows = self._rows()
        return pd.DataFrame(rows, columns=[str(name) for name in header])

    def render(self, form: str = "markdown", *, explain: bool = False) -> str:
        """Return the text of a format other than the terminal's.

        Args:
            form: "table" (plain text of full width), "markdown", "latex", "csv" or "json".
            explain: add the definitions (not for csv and json).

        Raises:
            UnknownName: for another format.
        """
        if form == "json":
            return json.dumps(self.record(), allow_nan=False, indent=1) + "\n"
        if form == "csv":
            return csv_text(self._rows())
        drawers: dict[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "table": _plain_text}
        if form not in drawers:
            raise UnknownName("format", form, [*drawers, "csv", "json"])
        draw = drawers[form]
        tables = self.tables(on_paper=form != "table")
        tables += [explanation(self.question.metrics)] if explain else []
        return "\n".join(draw(table) for table in tables)

    def _rows(self) -> list[list[object]]:
        return transfer_rows(list(self.transfers)) if self.view == "transfer" else _board_rows(self.boards)

    def __str__(self) -> str:
        left_out = (*(f"skipped {line}" for line in self.skipped), *self.hidden)
        return self.render("table") + "".join(f"{line}\n" for line in left_out)


def compare(
    results: str | Path | Sequence[Result] = "results",
    *,
    stream: Names = (),
    method: Names = (),
    metric: Names = DEFAULT_METRICS,
    against: str | None = None,
    planned: str | tuple[str, str] | None = None,
    view: str = "leaderboard",
    confidence: float = 0.95,
    partial: bool = False,
    all: bool = False,
    strict: bool = False,
) -> Comparison:
    """Compare results as `ctbench compare` does, with the same words; several names may be given as a list.

    Args:
        results: a folder of result files, or results.
        stream: only these streams.
        method: only these methods.
        metric: columns; the first one orders and ranks the rows.
        against: compare every method with this one, Holm-corrected.
        planned: one comparison declared beforehand, "A:B", tested without correction.
        view: "leaderboard" or "transfer" (per domain).
        confidence: of the intervals, in [0.5, 1); 1 - confidence is the level of the tests.
        partial: take means over incomplete sets, and mark them.
        all: show runs that are not comparable too, apart.
        strict: refuse files that cannot be used instead of naming them in `skipped`.

    Raises:
        MissingResult: there is nothing to compare.
        UnknownName: no such stream, method, metric or entry.
        BadConfig: a comparison that cannot be made.
        BadResult: with `strict`, for a file that cannot be used.

    Example:
        >>> comparison = compare("results", metric="F_Acc", against="naive")
        >>> comparison.record()["tables"][0]["metrics"]
        ['F_Acc']
    """
    if view not in VIEWS:
        raise UnknownName("view", view, VIEWS)
    if view == "transfer" and (against is not None or planned is not None):
        raise BadConfig("--against and --planned compare methods on the leaderboard; the view transfer has no tests")
    choice = Choice(streams=_names(stream), methods=_names(method), everything=all)
    question = Question(
        metrics=_names(metric) or DEFAULT_METRICS,
        against=against,
        planned=read_planned(planned) if isinstance(planned, str) else planned,
        partial=partial,
        confidence=confidence,
    )
    if isinstance(results, str | Path):
        loaded = read_results(results, strict=strict)
        place = str(results)
    else:
        loaded, place = Loaded(results=tuple(results), skipped=()), "what was given"
    if not loaded.results:
        hint = "; run one (ctbench run) or name another folder (--results)"
        more = f" ({len(loaded.skipped)} files could not be used)" if loaded.skipped else ""
        raise MissingResult(f"no results in {place}{more}{hint}")
    groups, hidden = group_results(loaded.results, choice)
    _check_names(groups, question)
    return Comparison(groups=tuple(groups), question=question, view=view, hidden=tuple(hidden), skipped=loaded.skipped)


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _plain_text(table: Table) -> str:
    return terminal(table).plain


def _check_names(groups: Sequence[Group], question: Question) -> None:
    """Refuse a method to compare with that no table has."""
    for name in [name for name in (question.against, *(question.planned or ())) if name is not None]:
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
        names = {entry.name for entry in group.entries} | {entry.label for entry in group.entries}
        asked, notes = question, []
        if question.against is not None and question.against not in names:
            asked = replace(asked, against=None)
            notes.append(f"{question.against} has no runs here to compare with")
        if question.planned is not None and not set(question.planned) <= names:
            asked = replace(asked, planned=None)
            notes.append(f"{' and '.join(question.planned)} are not both here to compare")
        board = make_board(group, asked)
        yield replace(board, notes=(*notes, *board.notes))


def _board_rows(boards: Sequence[Board]) -> list[list[object]]:
    """Return one row per entry, everything about it in columns."""
    metrics = boards[0].question.metrics if boards else ()
    parts = ("mean", "deviation", "low", "high", "rank", "partial")
    against = ("against", "difference", "low", "high", "n", "p", "p_holm")
    contrasts = [contrast for board in boards for contrast in board.contrasts]
    compared = [name for name in metrics if any(contrast.metric == name for contrast in contrasts)]
    head = ["stream", "version", "backbone", "recipe", "precision", "protocol", "apart", "method", "rank", "n"]
    score_names = [name if part == "mean" else f"{name}_{part}" for name in metrics for part in parts]
    kinds = {"vs": False, "planned": True}
    compared_names = [f"{name}_{kind}_{part}" for name in compared for kind in kinds for part in against]
    rows: list[list[object]] = [
        [*head, *score_names, *compared_names, "sd_between_runs", "sd_between_seeds", *COSTS, "traits", "findings"]
    ]
    for board in boards:
        record = board_record(board)
        shared = [record[key] for key in ("stream", "stream_version", "backbone", "recipe", "precision", "protocol")]
        for row in record["rows"]:
            scores = [row["scores"][name] for name in metrics]
            line = [*shared, "; ".join(record["why_apart"]), row["label"], scores[0]["rank"], row["n"]]
            for score in scores:
                line += [score["mean"], score["deviation"], score["low"], score["high"], score["rank"]]
                line.append(score["is_partial"])
            for name, is_planned in product(compared, kinds.values()):
                wanted = (row["label"], name, is_planned)
                found = [c for c in record["comparisons"] if (c["first"], c["metric"], c["is_planned"]) == wanted]
                keys = ("second", "difference", "low", "high", "n", "p", "p_holm")
                line += [found[-1][key] if found else None for key in keys]
            spread = (row["spread"]["pretraining"], row["spread"]["finetuning"])
            line += [*spread, *row["cost"].values(), ", ".join(row["traits"]), "; ".join(row["findings"])]
            rows.append(line)
    return rows


def explanation(metrics: Sequence[str]) -> Table:
    """Return the definitions of `metrics` and of the findings as a table."""
    rows = [(name, METRICS[name].definition, METRICS[name].source) for name in metrics]
    return Table(
        title="Definitions: R[i][j] is the score on task j after stage i; row 0 is the untouched LM, fine-tuned",
        columns=("metric", "definition", "source"),
        rows=tuple(tuple(Cell(text=text) for text in row) for row in rows),
        left=("definition", "source"),
        notes=tuple(f"finding {code}: {meaning}" for code, meaning in MEANINGS.items()),
    )


def read_planned(text: str) -> tuple[str, str]:
    """Read the two methods of "A:B".

    Raises:
        BadConfig: if that is not two names.
    """
    first, colon, second = text.partition(":")
    if not (colon and first and second) or first == second:
        raise BadConfig(f"--planned is '{text}'; two methods are wanted, as in --planned A:B")
    return first, second
