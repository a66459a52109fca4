"""The generated parts of README and docs: `python tests/readme.py` writes them, tests check their drift."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ctbench.report.compare import Comparison

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "results.md", ROOT / "docs" / "speed.md")
"""Files with generated parts; `STREAMS` is generated as a whole."""
STREAMS = ROOT / "docs" / "streams.md"
DECLARED = ("hyperprompt", "lwf", "replay")
SHOWN = ("A_Acc", "O_Acc", "F_Acc")
EMBEDDED = ("domain", "temporal")
REAL = ("dapset-mini", "arxiv-years")
KINDS = ("bf16", "fp32")
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def methods() -> str:
    """Return the table of methods, read from their files."""
    from ctbench.plugins import find_plugins
    from ctbench.source import describe_method

    lines = ["| method | what it does | paper | traits |", "| --- | --- | --- | --- |"]
    for plugin in find_plugins("method").values():
        described = describe_method(plugin)
        traits = ", ".join(name.replace("_", " ") for name, holds in described.traits.items() if holds)
        summary = described.summary.partition(": ")[2] or described.summary
        lines.append(f"| `{described.name}` | {summary} | {described.paper or '–'} | {traits or '–'} |")
    return "\n".join(lines) + "\n"


def mine() -> str:
    """Return the method that `ctbench new` writes."""
    from ctbench.new import method_text

    return f"```python\n{method_text('mine')}```\n"


def laws() -> str:
    """Return the table of laws."""
    from ctbench.laws import LAWS, sentence

    return "| law | what it says |\n| --- | --- |\n" + "".join(
        f"| {name} | {sentence(law)} |\n" for name, law in LAWS.items()
    )


def leaderboard() -> str:
    """Return the leaderboards of the embedded streams."""
    command = [sys.executable, "-m", "ctbench", "compare", "--format", "markdown", "--results", str(ROOT / "results")]
    command += [word for stream in EMBEDDED for word in ("--stream", stream)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def short() -> str:
    """Return the same without costs and findings."""
    import ctbench
    from ctbench.report.tables import markdown

    found = ctbench.compare(ROOT / "results", stream=EMBEDDED)
    tables = [table for table in found.tables(on_paper=True) if table.title.startswith(EMBEDDED)]
    kept = (tuple(note for note in table.notes if not note.startswith("finding")) for table in tables)
    return "\n".join(markdown(replace(table, notes=notes)) for table, notes in zip(tables, kept, strict=True))


def real() -> str:
    """Return the leaderboards of the streams of real text."""
    import ctbench

    return _tables(ctbench.compare(ROOT / "results", stream=REAL, metric=("anytime", *SHOWN, "FWT_all")), *REAL)


def adaptation() -> str:
    """Return what naive's stages did to the domain just learned, on real text: means over run seeds."""
    from ctbench.report.numbers import percent
    from ctbench.results import read_results

    lines = ["| stream | domain | metric | row 0 % | just learned % | LM loss before its stage | and after |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: |"]
    means = []
    for stream in REAL:
        runs = [run for run in read_results(ROOT / "results" / stream).results if run.method.name == "naive"]
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
    from ctbench.results import read_results

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
    from ctbench.report.numbers import percent
    from ctbench.tuning.record import read_tuning

    found = [read_tuning(path) for path in (ROOT / "results" / "tuning" / "domain" / "tiny").glob("*.json")]
    lines = ["| method | trials | objective % | chosen | ends of their range |", "| --- | ---: | ---: | --- | --- |"]
    for tuning in sorted(found, key=lambda each: (-(each.ranked[0].objective or 0.0), each.method.name)):
        chosen = ", ".join(f"{name} = {value}" for name, value in tuning.chosen.items()) or "–"
        ends = ", ".join(tuning.edges) or "–"
        cells = f"`{tuning.method.name}`", str(len(tuning.trials)), percent(tuning.ranked[0].objective), chosen, ends
        lines.append(f"| {' | '.join(cells)} |")
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
    from ctbench.bench.scaling import scaling_tables
    from ctbench.report.tables import markdown

    document = json.loads((ROOT / "results" / "bench" / "scaling.json").read_text(encoding="utf-8"))
    return markdown(scaling_tables(document)[1])


def _tables(comparison: Comparison, *titles: str) -> str:
    """Return the tables whose title begins with one of the words."""
    from ctbench.report.tables import markdown

    return "\n".join(markdown(table) for table in comparison.tables(on_paper=True) if table.title.startswith(titles))


def streams() -> str:
    """Return the reference of a stream's keys, read from the dataclasses that check them."""
    from ctbench.data.reference import describe_keys

    lines = [
        "# The keys of a stream",
        "",
        "Generated by `make readme` from the dataclasses that read the TOML. Every mistake is reported with file, line, what",
        "was found and what is allowed; `ctbench check STREAM` looks at the data as well.",
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for key, kind, default, text in describe_keys():
        cells = (f"`{key}`", kind, f"`{default}`" if default not in ("", "required") else default, text)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def generated(text: str) -> str:
    """Return a page with its generated parts made anew."""
    makers = {
        "methods": methods,
        "mine": mine,
        "laws": laws,
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


if __name__ == "__main__":
    STREAMS.parent.mkdir(exist_ok=True)
    STREAMS.write_text(streams(), encoding="utf-8")
    for page in PAGES:
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")
