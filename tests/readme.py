"""The generated parts of README and docs: `python tests/readme.py` writes them, tests check their drift."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from reference_pages import (
    command_line,
    findings,
    loss_metrics,
    methods_page,
    metrics,
    result_keys,
    result_schema,
    stream_keys,
    streams,
    study_keys,
    table,
    traits_of,
)

if TYPE_CHECKING:
    from ctbench.reporting.compare import Comparison
    from ctbench.results.schema import Result

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
WHOLE = {
    DOCS / "reference" / "command-line.md": command_line,
    DOCS / "reference" / "methods.md": methods_page,
    DOCS / "reference" / "result.md": result_keys,
    DOCS / "reference" / "result.schema.json": result_schema,
    DOCS / "reference" / "stream.md": stream_keys,
    DOCS / "reference" / "study.md": study_keys,
}
"""Pages that are generated as a whole."""
DECLARED = ("hyperprompt", "lwf", "replay")
REFERENCES = ("naive", "separate", "joint")
SHOWN = ("A_Acc", "O_Acc", "F_Acc")
EMBEDDED = ("domain", "temporal")
REAL = ("dapset-mini", "arxiv-years")
KINDS = ("bf16", "fp32")
_MARK = "<!-- generated: "
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def methods() -> str:
    """Return the short table of methods: their names by their traits."""
    from ctbench.plugins.find import find_plugins
    from ctbench.plugins.source import describe_method

    named: dict[str, list[str]] = {}
    for plugin in find_plugins("method").values():
        described = describe_method(plugin)
        named.setdefault(traits_of(described), []).append(f"`{described.name}`")
    return table(("methods", "traits"), [(", ".join(names), traits) for traits, names in sorted(named.items())])


def mine() -> str:
    """Return the method that `ctbench new` writes."""
    from ctbench.plugins.new import method_text

    return f"```python\n{method_text('mine')}```\n"


def order() -> str:
    """Return the import order of the rooms, which `tests/test_structure.py` holds."""
    from test_structure import ORDER

    return (
        "```text\n"
        + "".join(f"{'  -> ' if number else ''}{', '.join(names)}\n" for number, names in enumerate(ORDER))
        + "```\n"
    )


def laws() -> str:
    """Return the table of laws."""
    from ctbench.laws import LAWS, sentence

    return table(("law", "what it says"), [(name, sentence(law)) for name, law in LAWS.items()])


def leaderboard() -> str:
    """Return the leaderboards of the embedded streams."""
    command = [sys.executable, "-m", "ctbench", "compare", "--format", "markdown", "--results", str(ROOT / "results")]
    command += [word for stream in EMBEDDED for word in ("--stream", stream)]
    command += ["--columns", "standing,variance,cost,traits,findings"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def current(results: Iterable[Result]) -> list[Result]:
    """Return the results of each method's newest version, without overridden settings."""
    found = [result for result in results if not result.changed]
    newest = {
        name: max(r.method.version for r in found if r.method.name == name) for name in {r.method.name for r in found}
    }
    return [result for result in found if result.method.version == newest[result.method.name]]


def outdated() -> str:
    """Return which committed results are of an older version of a method than the one in its file, or have none yet."""
    from ctbench.plugins.find import find_plugins, load_class
    from ctbench.results.files import read_results

    old: dict[str, int] = {}
    for result in current(read_results(ROOT / "results").results):
        old[result.method.name] = max(old.get(result.method.name, 0), result.method.version)
    every = find_plugins("method")
    lines, lacking = [], [f"`{name}`" for name in every if name not in old]
    if lacking:
        lines.append(f"- {', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no committed results yet.")
    for name, plugin in every.items():
        version = load_class(plugin).version
        if name in old and old[name] < version:
            lines.append(
                f"- Results, trials and speeds of `{name}` are of version {old[name]}; the method is at version {version}, "
                "and its commands do not repeat them: use the commit that a result's provenance names."
            )
    return "\n".join(lines or ["- All committed results are of the methods' current versions."]) + "\n"


def quick() -> str:
    """Return the matrix that `ctbench run --method naive --stream domain` prints, from the committed result."""
    from ctbench.reporting.console import print_tables
    from ctbench.reporting.summary import matrix_table
    from ctbench.results.files import read_results

    found = read_results(ROOT / "results" / "domain" / "tiny" / "naive").results
    (run,) = [result for result in current(found) if result.seed == 0]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        print_tables([matrix_table(run)])
    matrix = printed.getvalue().strip().split("\n\n")[1].partition("\ncontrol")[0].partition("\nmajority")[0]
    return f"```text\n{matrix}\n```\n"


def short() -> str:
    """Return the means of both embedded streams: the declared comparison and three points of reference."""
    import ctbench

    shown = ("anytime", *SHOWN)
    means: dict[str, list[str]] = {name: [] for name in (*DECLARED, *REFERENCES)}
    for stream in EMBEDDED:
        record = ctbench.compare(ROOT / "results", stream=stream, metric=shown, method=tuple(means)).record()
        (found,) = record["tables"]
        newest = {
            row["method"]: max(r["version"] for r in found["rows"] if r["method"] == row["method"])
            for row in found["rows"]
        }
        for row in (row for row in found["rows"] if row["version"] == newest[row["method"]]):
            scores = (row["scores"][metric]["mean"] for metric in shown)
            means[row["method"]] += ["–" if score is None else f"{100 * score:.1f}" for score in scores]
    columns = [f"{stream}: {metric}" for stream in EMBEDDED for metric in shown]
    return table(("method", *columns), [(f"`{name}`", *scores) for name, scores in means.items()])


def real() -> str:
    """Return the leaderboards of the streams of real text."""
    import ctbench

    return _tables(ctbench.compare(ROOT / "results", stream=REAL, metric=("anytime", *SHOWN, "FWT_all")), *REAL)


def adaptation() -> str:
    """Return what naive's stages did to the domain just learned, on real text: means over run seeds."""
    from ctbench.reporting.numbers import percent
    from ctbench.results.files import read_results

    lines = ["| stream | domain | metric | row 0 % | just learned % | LM loss before its stage | and after |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: |"]
    means = []
    for stream in REAL:
        runs = [run for run in current(read_results(ROOT / "results" / stream).results) if run.method.name == "naive"]
        scores, losses = (np.mean([getattr(run, name) for run in runs], axis=0) for name in ("matrix", "lm_loss"))
        for task, domain in enumerate(runs[0].stream.domains):
            metric = runs[0].stream.metric[domain]
            shown = metric, percent(scores[0, task]), percent(scores[task + 1, task])
            nats = (f"{losses[row, task]:.2f}" for row in (task, task + 1))
            lines.append(f"| {' | '.join((stream, domain, *shown, *nats))} |")
        control = [run.control.scores for run in runs if run.control]
        found = (np.diag(scores[1:]), len(runs), "just learned"), (np.mean(control, axis=0), len(control), "control")
        parts = [f"{100 * np.mean(row - scores[0]):+.1f} {name} (n = {count})" for row, count, name in found]
        means.append(f"- {stream}, mean difference from row 0 in points: {', '.join(parts)}")
    return "\n".join([*lines, "", *means]) + "\n"


def precision() -> str:
    """Return paired differences of naive in bf16 and in fp32 on the embedded streams."""
    from ctbench.results.files import read_results

    lines = ["| stream | metric | n | fp32 | bf16 | bf16 − fp32, seed by seed | between seeds (fp32) |"]
    lines += ["| --- | --- | ---: | ---: | ---: | --- | ---: |"]
    for stream in EMBEDDED:
        runs = read_results(ROOT / "results" / "precision" / stream).results
        for metric in ("anytime", *SHOWN):
            found = {kind: {run.seed: run.metrics[metric] for run in runs if run.precision == kind} for kind in KINDS}
            low, full = ([100 * found[kind][seed] for seed in sorted(found["fp32"])] for kind in KINDS)
            each = ", ".join(f"{one - other:+.1f}" for one, other in zip(low, full, strict=True))
            cells = stream, metric, str(len(full)), f"{np.mean(full):.1f}", f"{np.mean(low):.1f}", each
            lines.append(f"| {' | '.join(cells)} | ± {np.std(full, ddof=1):.1f} |")
    return "\n".join(lines) + "\n"


def declared() -> str:
    """Return the paired differences of the declared comparison."""
    import ctbench

    found = ctbench.compare(ROOT / "results", stream=EMBEDDED, method=DECLARED, metric=SHOWN, against=DECLARED[0])
    return _tables(found, "Differences")


def tuned() -> str:
    """Return what the committed trials chose, best objective first."""
    from ctbench.reporting.numbers import percent
    from ctbench.tuning.record import is_equal, read_tuning

    found = [read_tuning(path) for path in (ROOT / "results" / "tuning" / "domain" / "tiny").glob("*.json")]
    names = ("method", "trials", "objective %", "± s.e.", "equal to the best", "chosen", "ends of their range")
    lines = [f"| {' | '.join(names)} |", "| --- | ---: | ---: | ---: | --- | --- | --- |"]
    ranked = sorted(found, key=lambda each: (-(each.ranked[0].objective or 0.0), each.method.name))
    for tuning in ranked:
        chosen = ", ".join(f"{name} = {value}" for name, value in tuning.chosen.items()) or "–"
        ends = ", ".join(tuning.edges) or "–"
        best, equal = tuning.ranked[0], "yes" if is_equal(ranked[0].ranked[0], tuning.ranked[0]) else ""
        numbers = str(len(tuning.trials)), percent(best.objective), percent(best.standard_error)
        lines.append(f"| {' | '.join((f'`{tuning.method.name}`', *numbers, equal, chosen, ends))} |")
    return "\n".join(lines) + "\n"


def ablations() -> str:
    """Return the leaderboards of hyperprompt without its parts."""
    import ctbench

    return _tables(ctbench.compare(ROOT / "results" / "ablations", metric=("anytime", *SHOWN, "FWT_all")), *EMBEDDED)


def speed() -> str:
    """Return the ratios of the committed bench."""
    return _speed("bench.json")


def gpu() -> str:
    """Return those on a GPU, one table for each shape."""
    return "\n".join(_speed(name) for name in ("gpu.json", "gpu-512.json"))


def _speed(name: str) -> str:
    document = json.loads((ROOT / "results" / "bench" / name).read_text(encoding="utf-8"))
    machine = document["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers"))
    lines = ["| at | side | against | ratio | least | most |", "| --- | --- | --- | ---: | ---: | ---: |"]

    def add(at: str, side: str, against: str, *values: float) -> None:
        lines.append(f"| {at} | {side} | {against} | {' | '.join(f'{value:.2f}' for value in values)} |")

    for training in document["training"]:
        for row in training["ratios"]:
            add(training["shape"], row["label"], row["against"], row["median"], row["min"], row["max"])
        for side in training["sides"]:
            if side["loop"] == "engine" and side["method"] is None:
                share, found = side["peak_fraction"], side["tokens_per_second"]
                ends = (share * found[end] / found["median"] for end in ("min", "max"))
                add(training["shape"], side["label"], f"matmul peak {side['precision']}", share, *ends)
    if cells := document["cells"]:
        for row in cells["ratios"]:
            add("cells", row["label"], row["against"], row["median"], row["min"], row["max"])
    if protocol := document["protocol"]:
        for row in protocol["ratios"]:
            against = f"{row['against']}, projected"
            lines.append(
                f"| {protocol['stream']}, whole run | {row['label']} | {against} | {row['ratio']:.1f} | – | – |"
            )
    where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    about = f"{where}, {versions}, {document['training'][0]['pairs']} rounds"
    return "\n".join([f"{about}:", "", *lines]) + "\n"


def fast() -> str:
    """Return the engine's ratios against a Trainer in the same precision, compiled where it is."""
    lines = ["| machine | what | engine | least | most |", "| --- | --- | ---: | ---: | ---: |"]
    for name in ("bench.json", "gpu.json", "gpu-512.json"):
        document = json.loads((ROOT / "results" / "bench" / name).read_text(encoding="utf-8"))
        machine, cells, protocol = document["machine"], document["cells"], document["protocol"]
        where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
        found = [(f"pre-training, {each['shape']}", row) for each in document["training"] for row in each["ratios"]]
        found += [("cells", row) for row in (cells["ratios"] if cells else ())]
        for what, row in found:
            precision = row["label"].split()[-1]
            is_compiled = row["label"].startswith("compiled")
            if row["against"] == f"{'compiled ' * is_compiled}Trainer {precision}" and "1 worker" not in row["label"]:
                about = f"{what}, {precision}{', both compiled' * is_compiled}"
                lines.append(f"| {where} | {about} | {row['median']:.2f} | {row['min']:.2f} | {row['max']:.2f} |")
        for row in protocol["ratios"] if protocol else ():
            precision = row["label"].split()[-1]
            if row["against"] == f"Trainer {precision}":
                about = f"whole run of `{protocol['stream']}`, {precision}, projected"
                lines.append(f"| {where} | {about} | {row['ratio']:.1f} | – | – |")
    return "\n".join(lines) + "\n"


def scaling() -> str:
    """Return how cost grows, from the committed study."""
    from ctbench.reporting.tables import markdown
    from ctbench.speed.scaling import scaling_tables

    document = json.loads((ROOT / "results" / "bench" / "scaling.json").read_text(encoding="utf-8"))
    return markdown(scaling_tables(document)[1])


def _tables(comparison: Comparison, *titles: str) -> str:
    """Return the tables whose title begins with one of the words."""
    from ctbench.reporting.tables import markdown

    return "\n".join(markdown(table) for table in comparison.tables(on_paper=True) if table.title.startswith(titles))


def generated(text: str) -> str:
    """Return a page with its generated parts made anew."""
    makers = {
        "quick": quick,
        "methods": methods,
        "metrics": metrics,
        "loss_metrics": loss_metrics,
        "findings": findings,
        "streams": streams,
        "mine": mine,
        "laws": laws,
        "order": order,
        "outdated": outdated,
        "leaderboard": leaderboard,
        "short": short,
        "fast": fast,
        "real": real,
        "adaptation": adaptation,
        "precision": precision,
        "speed": speed,
        "gpu": gpu,
        "scaling": scaling,
        "declared": declared,
        "tuned": tuned,
        "ablations": ablations,
    }
    return _BLOCK.sub(lambda found: f"{found[1]}{makers[found[2]]()}{found[3]}", text)


def pages() -> list[Path]:
    """Return README and the pages of docs that have generated parts."""
    found = [README, *sorted(DOCS.rglob("*.md"))]
    return [page for page in found if page not in WHOLE and _MARK in page.read_text(encoding="utf-8")]


def write_all() -> None:
    """Write every generated page and part."""
    for page, maker in WHOLE.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(maker(), encoding="utf-8")
    for page in pages():
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_all()
