"""The generated tables of docs/results.md and of the README's results, each a pure function of a folder of results.

Results may be missing: of a method, of a stream, or of a whole study. Such a part says so in one line instead of a table,
and a figure that no result holds has no column.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from reference_pages import table

if TYPE_CHECKING:
    from ctbench.reporting.compare import Comparison
    from ctbench.reporting.entries import Entry
    from ctbench.results.schema import Result

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
STUDIES = RESULTS / "studies"
CEILINGS = ("oracle_prompt", "oracle_map", "hyperprompt", "hypermap", "separate", "naive")
FREEZING = ("part", "naive", "lora", "adapters", "prompts")
OURS = ("hypermap", "hyperprompt")
RIVALS = ("lwf", "replay")
REFERENCES = ("ewc", "naive", "separate", "joint")
SHOWN = ("A_Acc", "O_Acc", "F_Acc")
LOSSES = ("anytime", "learned", "unseen", "final", "FWT_all", "forgetting")
KEPT = ("general", "general_bits", "gap_to_joint", "recovered")
EFFECTS = ("prompt_effect", "prompt_contrast", "prompt_domains")
EMBEDDED = ("domain", "temporal")
REAL = "reference-real"
QUESTIONS = ("schedules", "compute", "doubled", "orders", "length", "share", "widths", "languages", "decoder")
KINDS = ("bf16", "fp32")


# What there is


def compared(
    folder: Path, *, streams: Sequence[str] = (), methods: Sequence[str] = (), defaults: bool = False, **options: Any
) -> Comparison | None:
    """Compare those of some methods in a folder, or in its folders of some streams; None if there are none.

    Studies have folders of their own beside those of the streams. With `defaults` runs of methods with other settings are
    left out.
    """
    import ctbench
    from ctbench.results.files import read_results

    folders = [folder / stream for stream in streams] or [folder]
    found = [run for each in folders if each.is_dir() for run in read_results(each).results]
    found = [run for run in found if not methods or run.method.name in methods]
    found = [run for run in found if not defaults or _has_defaults(run)]
    return ctbench.compare(found, **options) if found else None


def current(results: Iterable[Result]) -> list[Result]:
    """Return the results of each method's newest version, without overridden settings."""
    found = [result for result in results if not result.changed]
    newest = {
        name: max(r.method.version for r in found if r.method.name == name) for name in {r.method.name for r in found}
    }
    return [result for result in found if result.method.version == newest[result.method.name]]


def outdated(folder: Path = RESULTS) -> str:
    """Return which results are of an older version of a method than the one in its file, and which methods have none."""
    from ctbench.plugins.find import find_plugins, load_class
    from ctbench.results.files import read_results

    versions: dict[str, dict[str, set[int]]] = {}
    parts = [path for path in folder.glob("*") if path.is_dir() and path.name not in ("bench", "studies", "tuning")]
    for part in sorted(parts):
        for result in read_results(part).results:
            versions.setdefault(result.method.name, {}).setdefault(part.name, set()).add(result.method.version)
    every = find_plugins("method")
    lines, lacking = [], [f"`{name}`" for name in every if not versions.get(name, {}).keys() & {*EMBEDDED}]
    if lacking:
        lines.append(f"- {', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no committed results yet.")
    for name, plugin in every.items():
        version = load_class(plugin).version
        found = versions.get(name, {})
        for old in sorted(set().union(*found.values()) - {version}):
            places = ", ".join(f"`{place}`" for place, held in found.items() if old in held)
            lines.append(
                f"- Results of `{name}` in {places} are of version {old}; the method is at version {version}, and its commands "
                "do not repeat them."
            )
    return "\n".join(lines or ["- All committed results are of the methods' current versions."]) + "\n"


def missing(what: str, how: str) -> str:
    """Return the line that stands for a table without results."""
    return f"- No committed results {what} yet: `{how}`.\n"


def _tables(comparison: Comparison | None, *titles: str, what: str, how: str) -> str:
    """Return the tables whose title begins with one of the words, or the line that there are none."""
    from ctbench.reporting.tables import markdown

    tables = comparison.tables(on_paper=True) if comparison else []
    return "\n".join(markdown(each) for each in tables if each.title.startswith(titles)) or missing(what, how)


# The README


def quick(folder: Path = RESULTS) -> str:
    """Return the matrix that `ctbench run --method naive --stream domain` prints, from the newest committed result."""
    from ctbench.reporting.console import print_tables
    from ctbench.reporting.summary import matrix_table
    from ctbench.results.files import read_results

    found = current(read_results(folder / "domain" / "tiny" / "naive").results)
    run = max((result for result in found if result.seed == 0), key=lambda result: result.provenance.date)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        print_tables([matrix_table(run)])
    matrix = printed.getvalue().strip().split("\n\n")[1].partition("\ncontrol")[0].partition("\nmajority")[0]
    return f"```text\n{matrix}\n```\n"


def short(folder: Path = RESULTS) -> str:
    """Return the means of both embedded streams: the declared comparisons and points of reference."""
    shown, every = ("anytime", *SHOWN), (*OURS, *RIVALS, *REFERENCES)
    means: dict[str, list[str]] = {name: [] for name in every}
    for stream in EMBEDDED:
        board = next(_main_boards(compared(folder, streams=(stream,), methods=every, metric=shown)), None)
        rows = {row.entry.name: row for row in board.rows if _has_defaults(row.entry.first)} if board else {}
        for name in every:
            scores = [rows[name].scores[metric].mean if name in rows else math.nan for metric in shown]
            means[name] += ["–" if math.isnan(score) else f"{100 * score:.1f}" for score in scores]
    columns = [f"{stream}: {metric}" for stream in EMBEDDED for metric in shown]
    return table(("method", *columns), [(f"`{name}`", *scores) for name, scores in means.items()])


# Figures in prose


def figure(asked: str, folder: Path = RESULTS) -> str:
    """Return a figure that a sentence asks for, from the first table of a stream; a dash if it does not exist.

    Args:
        asked: "STREAM ROW NAME", with the name of a metric of scores, of one that LM losses alone have (learned, unseen,
            final), of a figure or of a cost. ROW is a method, or the label of a row without its spaces, such as
            part(trains=words). "STREAM ROW-OTHER METRIC" is the paired difference with its interval, "STREAM ROW/OTHER COST"
            a ratio, and "STREAM row0", "STREAM row0 learned" or "STREAM control" the mean over tasks. Scores are in
            percent, losses in nats.
        folder: the results.
    """
    from ctbench.reporting import numbers

    stream, what, *name = asked.split()
    on, metrics = _metrics(name)
    board = next(_main_boards(compared(folder, streams=(stream,), on=on, metric=metrics, all=True)), None)
    if board is None:
        return numbers.DASH
    results = board.group.results
    if what == "control":
        rows = [run.control.scores for run in results if run.control]
        return numbers.percent(float(np.mean(rows)) if rows else math.nan)
    if what == "row0":
        losses, scores = ([getattr(run, of)[0] for run in results] for of in ("lm_loss", "matrix"))
        return numbers.loss(float(np.mean(losses))) if on == "loss" else numbers.percent(float(np.mean(scores)))
    known: dict[str, Any] = {}
    for row in sorted(board.rows, key=lambda row: row.entry.first.method.version):
        known[re.sub("[ †]", "", row.entry.label)] = row
        if _has_defaults(row.entry.first):
            known[row.entry.name] = row
    mine = [known.get(each) for each in re.split("[-/]", what)]
    return numbers.DASH if None in mine else _figure_of(board, mine, name[0], is_ratio="/" in what)


def _has_defaults(run: Result) -> bool:
    return not any(key.startswith("method.") for key in run.changed)


def _metrics(name: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the matrix and the metrics that a table with this figure is made of."""
    from ctbench.results.loss_metrics import LOSS_METRICS
    from ctbench.results.metrics import METRICS

    own = tuple(each for each in name if each in METRICS or each in LOSS_METRICS)
    return "loss" if own and own[0] not in METRICS else "score", own or ("anytime",)


def _figure_of(board: Any, rows: Sequence[Any], name: str, *, is_ratio: bool) -> str:
    from ctbench.reporting import numbers
    from ctbench.reporting.scores import COSTS, differences
    from ctbench.reporting.statistics.intervals import mean_interval
    from ctbench.results.figures import FIGURES

    if is_ratio:
        ratio = rows[0].cost[name] / rows[1].cost[name]
        return numbers.DASH if math.isnan(ratio) else f"{ratio:.1f}"
    if name in COSTS:
        return numbers.cost(name, rows[0].cost[name])
    if name in FIGURES:
        return _figure(rows[0].entry, name, board.group).partition(" ")[0]
    metric, scores = board.question.metric(name), [row.scores[name] for row in rows]
    if len(rows) == 1:
        return numbers.metric_number(metric, scores[0].mean)
    found = mean_interval(differences(*scores))
    return f"{numbers.points(found.mean)} {numbers.interval(found.low, found.high, signed=True)}"


# The embedded streams


def leaderboard(folder: Path = RESULTS) -> str:
    """Return the leaderboards of the embedded streams, with variance, costs and traits."""
    asked = "standing,variance,cost,traits,findings"
    comparison = compared(folder, streams=EMBEDDED, columns=tuple(asked.split(",")))
    return _tables(comparison, "", what="on the embedded streams", how="make reference")


def losses(folder: Path = RESULTS) -> str:
    """Return the leaderboards of LM losses: learned, unseen and final are A_Acc, O_Acc and F_Acc of losses."""
    comparison = compared(folder, streams=EMBEDDED, on="loss", metric=LOSSES)
    text = _tables(comparison, *EMBEDDED, what="on the embedded streams", how="make reference")
    return re.sub(r"^- (?:finding|note:) .*\n", "", text, flags=re.M)  # those of the scores, which stand there


def kept(folder: Path = RESULTS) -> str:
    """Return retention, the gap to joint training, and FLOPs of every method, one table for each main leaderboard."""
    comparison = compared(folder, streams=EMBEDDED)
    found = [_kept_of(board) for board in _main_boards(comparison)]
    return "\n".join(each for each in found if each) or missing("with these figures", "make reference")


def _main_boards(comparison: Comparison | None) -> Iterator[Any]:
    seen = set()
    for board in comparison.boards if comparison else ():
        name = board.group.results[0].stream.name
        if name not in seen:
            seen.add(name)
            yield board


def _kept_of(board: Any) -> str:
    from ctbench.reporting import numbers
    from ctbench.reporting.figures import figure_values
    from ctbench.reporting.tables import Table, markdown, text_rows
    from ctbench.results.figures import FIGURES

    entries = [row.entry for row in board.rows]
    known = {name: [figure_values(entry, name, board.group) for entry in entries] for name in KEPT}
    names = [name for name, found in known.items() if not all(math.isnan(value) for each in found for value in each)]
    naive = next((row.cost["flops"] for row in board.rows if row.entry.label == "naive"), math.nan)
    has_flops = any(not math.isnan(row.cost["flops"]) for row in board.rows)
    if not names and not has_flops:
        return ""
    rows = []
    for row in board.rows:
        texts = [row.entry.label, str(len(row.entry.results))]
        texts += [_figure(row.entry, name, board.group) for name in names]
        if has_flops:
            ratio = row.cost["flops"] / naive
            texts += [numbers.count(row.cost["flops"]), numbers.DASH if math.isnan(ratio) else f"{ratio:.2f}"]
        rows.append(texts)
    arrows = {"higher": "↑", "lower": "↓"}
    heads = [f"{name}, {FIGURES[name].unit} {arrows[FIGURES[name].better]}" for name in names]
    about = [f"{name}: {FIGURES[name].definition}" for name in names]
    columns = ("method", "n", *heads, *(("FLOPs", "of naive's") if has_flops else ()))
    title = f"What is kept, and what it costs · {board.group.title}"
    return markdown(Table(title=title, columns=columns, rows=text_rows(rows), notes=tuple(about)))


def _figure(entry: Entry, name: str, group: Any) -> str:
    """Return a figure over the runs that have it, with their number if some lack it: a joint run may have fewer seeds."""
    from dataclasses import replace

    from ctbench.reporting.figures import figure_text, figure_values
    from ctbench.reporting.numbers import DASH

    values = figure_values(entry, name, group)
    has = {run: each for (run, each), value in zip(entry.results.items(), values, strict=True) if not math.isnan(value)}
    few = f" (n = {len(has)})" if len(has) < len(values) else ""
    return figure_text(replace(entry, results=has), name, group) + few if has else DASH


def effects(folder: Path = RESULTS) -> str:
    """Return what prompts and maps change in each stage, means over runs, one table for each stream."""
    comparison = compared(folder, streams=EMBEDDED)
    found = [text for board in _main_boards(comparison) if (text := _effects_of(board))]
    return "\n".join(found) or missing("with effects of prompts or maps", "make reference")


def _effects_of(board: Any, names: Sequence[str] = EFFECTS) -> str:
    from ctbench.reporting import numbers
    from ctbench.reporting.tables import Table, markdown, text_rows

    domains = board.group.domains
    rows = []
    for entry in (row.entry for row in board.rows):
        for name in names:
            show = numbers.percent if name == "prompt_domains" else numbers.loss
            values = [_effect(entry, name, stage) for stage in range(1, len(domains) + 1)]
            if not all(map(math.isnan, values)):
                unit = "%" if name == "prompt_domains" else "nats"
                rows.append((entry.label, f"{name}, {unit}", str(len(entry.results)), *map(show, values)))
    if not rows:
        return ""
    stages = [f"{number} {name}" for number, name in enumerate(domains, start=1)]
    about = {
        "prompt_effect": "divergence of the LM with its own prompt or map from the LM with none",
        "prompt_contrast": "divergence of the LM with its own prompt or map from the LM with that of a random mixture",
        "prompt_domains": "groups of texts whose domain a linear probe names from what is generated for them; guessing "
        f"names {numbers.percent(1 / len(domains))} %",
    }
    notes = tuple(f"{name}: {about[name]}" for name in names)
    title = f"Effects of prompts and maps after each stage · {board.group.title}"
    shown = Table(
        title=title, columns=("method", "effect", "n", *stages), rows=text_rows(rows), left=("effect",), notes=notes
    )
    return markdown(shown)


def _effect(entry: Entry, name: str, stage: int) -> float:
    """Return the mean over runs of an effect in a stage; NaN if a run does not hold it."""
    records = [record for run in entry.results.values() for record in run.stages if record.stage == stage]
    values = [record.notes.get(name) for record in records]
    known = [float(value) for value in values if isinstance(value, int | float)]
    return float(np.mean(known)) if known and len(known) == len(entry.results) else math.nan


def oracles(folder: Path = RESULTS) -> str:
    """Return the leaderboards and the effects of the oracles beside the methods that they are ceilings of."""
    comparison = compared(folder, streams=EMBEDDED, methods=CEILINGS, metric=("anytime", *SHOWN, "FWT_all"), all=True)
    boards = [board for board in _main_boards(comparison) if any(row.entry.name in CEILINGS[:2] for row in board.rows)]
    names = tuple(board.group.title for board in boards)
    if not names:
        return missing("of the oracles", "make oracles")
    told = [text for board in boards if (text := _effects_of(board, EFFECTS[:1]))]
    return "\n".join([_tables(comparison, *names, what="of the oracles", how="make oracles"), *told])


def parts(folder: Path = RESULTS) -> str:
    """Return what naive learns with a part of the LM trained, beside the methods that freeze a part of it."""
    tables = []
    for on, metric in (("score", "A_Acc"), ("loss", "learned")):
        found = compared(folder, streams=EMBEDDED, methods=FREEZING, on=on, metric=(metric,), all=True)
        boards = [board for board in _main_boards(found) if any(row.entry.name == FREEZING[0] for row in board.rows)]
        titles = tuple(board.group.title for board in boards)
        tables += [_tables(found, *titles, what="", how="")] if titles else []
    return "\n".join(tables) or missing("of parts of the LM", "make parts")


def declared(folder: Path = RESULTS) -> str:
    """Return the paired differences of the declared comparisons, each of our methods with the same rivals."""
    return "\n".join(_declared(name, folder) for name in OURS)


def _declared(name: str, folder: Path) -> str:
    how = "make reference"
    if compared(folder, streams=EMBEDDED, methods=(name,)) is None:
        return missing(f"of {name}", how)
    methods = (name, *RIVALS)
    found = compared(folder, streams=EMBEDDED, methods=methods, defaults=True, metric=SHOWN, against=name)
    return _tables(found, "Differences", what="of the declared comparison", how=how)


def ablations(folder: Path = RESULTS) -> str:
    """Return the leaderboard of the conditional methods without their parts."""
    found = compared(folder / "ablations", metric=("anytime", *SHOWN, "FWT_all"))
    return _tables(found, EMBEDDED[0], what="of ablations", how="make ablations")


def precision(folder: Path = RESULTS) -> str:
    """Return paired differences of naive in bf16 and in fp32 on the embedded streams."""
    from ctbench.results.files import read_results

    lines = ["| stream | metric | n | fp32 | bf16 | bf16 − fp32, seed by seed | between seeds (fp32) |"]
    lines += ["| --- | --- | ---: | ---: | ---: | --- | ---: |"]
    for stream in EMBEDDED:
        runs = read_results(folder / "precision" / stream).results
        for metric in ("anytime", *SHOWN) if runs else ():
            found = {kind: {run.seed: run.metrics[metric] for run in runs if run.precision == kind} for kind in KINDS}
            low, full = ([100 * found[kind][seed] for seed in sorted(found["fp32"])] for kind in KINDS)
            each = ", ".join(f"{one - other:+.1f}" for one, other in zip(low, full, strict=True))
            cells = stream, metric, str(len(full)), f"{np.mean(full):.1f}", f"{np.mean(low):.1f}", each
            lines.append(f"| {' | '.join(cells)} | ± {np.std(full, ddof=1):.1f} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else missing("in two precisions", "make precision")


# One question each


def table_command(study: Path) -> list[str]:
    """Return the `ctbench compare` call that the head of a study file names, as words."""
    head = study.read_text(encoding="utf-8").partition("name =")[0]
    return shlex.split(re.findall(r"ctbench compare [^\n,]*", head)[-1])


def studies(folder: Path = RESULTS) -> str:
    """Return the table of every study that has results, under its command, and the targets of those that have none."""
    parts, lacking = [], []
    for name in QUESTIONS:
        if not any((folder / name).rglob("*.json")):
            lacking.append(f"`make {name}`")
            continue
        parts.append(study(name, folder))
    if lacking:
        parts.append(f"- No committed results yet of {', '.join(lacking)}.\n")
    return "\n".join(parts)


def study(name: str, folder: Path = RESULTS) -> str:
    """Return the table of one study under its commands."""
    words = table_command(STUDIES / f"{name}.toml")
    call = [sys.executable, "-m", "ctbench", *words[1:], "--format", "markdown"]
    call[call.index("--results") + 1] = str(folder / name)
    shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return f"`make {name}`, then `{shlex.join(words)}`:\n\n{shown}"


# Real text


def real(folder: Path = RESULTS) -> str:
    """Return the leaderboards of LM losses on real text with BERT-tiny."""
    return _study_of_real_text(REAL, folder)


def scores(folder: Path = RESULTS) -> str:
    """Return the leaderboard of scores on real text with BERT-tiny."""
    return _study_of_real_text("scores", folder)


def encoder(folder: Path = RESULTS) -> str:
    """Return the leaderboard of LM losses on real text with an encoder of width 384."""
    return _study_of_real_text("encoder", folder)


def _study_of_real_text(name: str, folder: Path) -> str:
    return study(name, folder) if any((folder / name).rglob("*.json")) else missing("on real text", f"make {name}")


def adaptation(folder: Path = RESULTS) -> str:
    """Return what naive's stages did to the LM loss of their own domain on real text, and what later ones did to it."""
    from ctbench.reporting.numbers import loss
    from ctbench.results.files import read_results

    lines = ["| stream | domain | n | row 0 | before its stage | after it | after the last |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    found: dict[str, list[Result]] = {}
    for run in read_results(folder / REAL).results if (folder / REAL).is_dir() else ():
        if run.method.name == "naive" and _has_defaults(run):
            found.setdefault(run.stream.name, []).append(run)
    for stream, runs in sorted(found.items()):
        nats = np.mean([run.lm_loss for run in runs], axis=0)
        for task, domain in enumerate(runs[0].stream.domains):
            shown = (loss(nats[row, task]) for row in (0, task, task + 1, -1))
            lines.append(f"| {' | '.join((stream, domain, str(len(runs)), *shown))} |")
    return "\n".join(lines) + "\n" if found else missing("of naive on real text", f"make {REAL}")


# How each row is made


def commands(folder: Path = RESULTS) -> str:
    """Return the command of every row of the embedded streams: of the newest version, seeds and streams together."""
    from ctbench.results.files import read_results

    found: dict[tuple[str, ...], dict[str, set[int]]] = {}
    for run in current(read_results(folder).results):
        if run.stream.name in EMBEDDED and not run.not_comparable:
            found.setdefault(_command(run), {}).setdefault(run.stream.name, set()).add(run.seed)
    rows = []
    for words, seeds in sorted(found.items()):
        for numbers in sorted({tuple(sorted(each)) for each in seeds.values()}):
            mine = [stream for stream in EMBEDDED if stream in seeds and tuple(sorted(seeds[stream])) == numbers]
            text = shlex.join(words).replace("STREAM", ",".join(mine)).replace("SEED", seed_text(numbers))
            rows.append((f"`{words[words.index('--method') + 1]}`", f"`{text}`"))
    return table(("row", "command"), rows) if rows else missing("on the embedded streams", "make reference")


def _command(run: Result) -> tuple[str, ...]:
    """Return the words of a run's command with names in place of stream and seed."""
    from ctbench.reporting.reproduce import command_line

    words = shlex.split(command_line(run))
    for option, name in (("--stream", "STREAM"), ("--seed", "SEED")):
        words[words.index(option) + 1] = name
    return tuple(words)


def seed_text(seeds: Sequence[int]) -> str:
    """Return seeds as the command line takes them: 0..2, or 0,1,5."""
    is_range = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}..{seeds[-1]}" if is_range else ",".join(map(str, seeds))


DOCS_PARTS = (
    outdated,
    leaderboard,
    losses,
    kept,
    effects,
    oracles,
    parts,
    declared,
    ablations,
    precision,
    studies,
    real,
    adaptation,
    scores,
    encoder,
    commands,
)
"""The parts that may be made of any folder; those of the README need the results that it shows."""
