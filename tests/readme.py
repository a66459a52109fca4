"""The generated parts of README and docs: `python tests/readme.py` writes them, tests check their drift."""

from __future__ import annotations

import json
import re
from pathlib import Path

import results_page
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
_MARK = "<!-- generated: "
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- = ([^>]+?) -->)[^<]*(<!-- / -->)")
"""A figure inside a sentence: `<!-- = domain naive F_Acc -->82.2<!-- / -->`, as `results_page.figure` reads it.

It never begins a line: Markdown would take the line for HTML and end the paragraph or the list.
"""


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


def tuned() -> str:
    """Return the best of the committed trials and what the files have instead, best objective first."""
    from ctbench.plugins.find import find_plugin, load_class
    from ctbench.reporting.numbers import percent
    from ctbench.tuning.record import is_equal, read_tuning

    found = [read_tuning(path) for path in (ROOT / "results" / "tuning" / "domain" / "tiny").glob("*.json")]
    names = ("method", "trials", "objective %", "± s.e.", "equal to the best method", "best trial")
    names += ("its ends of ranges", "the file has")
    lines = [f"| {' | '.join(names)} |", "| --- | ---: | ---: | ---: | --- | --- | --- | --- |"]
    ranked = sorted(found, key=lambda each: (-(each.ranked[0].objective or 0.0), each.method.name))
    for tuning in ranked:
        cls = load_class(find_plugin("method", tuning.method.name))
        kept = {name: getattr(cls, name) for name, value in tuning.chosen.items() if getattr(cls, name) != value}
        chosen, other = (
            ", ".join(f"{name} = {value}" for name, value in each.items()) for each in (tuning.chosen, kept)
        )
        ends = ", ".join(tuning.edges)
        old = f" (version {tuning.method.version})" if tuning.method.version < cls.version else ""
        best, equal = tuning.ranked[0], "yes" if is_equal(ranked[0].ranked[0], tuning.ranked[0]) else ""
        numbers = str(len(tuning.trials)), percent(best.objective), percent(best.standard_error)
        texts = [text or "–" for text in (chosen, ends, other)]
        lines.append(f"| {' | '.join((f'`{tuning.method.name}`{old}', *numbers, equal, *texts))} |")
    return "\n".join(lines) + "\n"


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


def generated(text: str) -> str:
    """Return a page with its generated parts made anew."""
    makers = {
        "quick": results_page.quick,
        "methods": methods,
        "metrics": metrics,
        "loss_metrics": loss_metrics,
        "findings": findings,
        "streams": streams,
        "mine": mine,
        "laws": laws,
        "order": order,
        "outdated": results_page.outdated,
        "leaderboard": results_page.leaderboard,
        "short": results_page.short,
        "fast": fast,
        "real": results_page.real,
        "adaptation": results_page.adaptation,
        "scores": results_page.scores,
        "encoder": results_page.encoder,
        "precision": results_page.precision,
        "speed": speed,
        "gpu": gpu,
        "scaling": scaling,
        "declared": results_page.declared,
        "tuned": tuned,
        "ablations": results_page.ablations,
        "losses": results_page.losses,
        "kept": results_page.kept,
        "effects": results_page.effects,
        "oracles": results_page.oracles,
        "parts": results_page.parts,
        "studies": results_page.studies,
        "commands": results_page.commands,
    }
    text = _FIGURE.sub(lambda found: f"{found[1]}{results_page.figure(found[2])}{found[3]}", text)
    return _BLOCK.sub(lambda found: f"{found[1]}{makers[found[2]]()}{found[3]}", text)


def pages() -> list[Path]:
    """Return README and the pages of docs that have generated parts."""
    found = [README, *sorted(DOCS.rglob("*.md"))]
    texts = {page: page.read_text(encoding="utf-8") for page in found if page not in WHOLE}
    return [page for page, text in texts.items() if _MARK in text or _FIGURE.search(text)]


def write_all() -> None:
    """Write every generated page and part."""
    for page, maker in WHOLE.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(maker(), encoding="utf-8")
    for page in pages():
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_all()
