"""Build the site of docs/ strictly: `python tests/build_docs.py` prints one line per mistake and exits with 1.

The HTML report of the committed results becomes a page of the site: `site/report.html`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
REPORT = "report.html"
"""Address of the HTML report in the site; pages link to it as if it lay in docs/."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DRAWN = re.compile(r"^(?:Warning|Error): ([^\n]+)\n\s*╭─\[ (\S+?):(\d+):\d+ \]\n(.*?)^─+╯$", re.M | re.S)
_PLAIN = re.compile(r"^(?:Warning|Error): (.+) in (\S+\.md)$", re.M)


def build(root: Path) -> list[str]:
    """Build the site of the `zensical.toml` in a folder and return its mistakes, one line each; none means that it is built."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    said = _COLOUR.sub("", done.stdout + done.stderr)
    if done.returncode == 0 and "Warning:" not in said:
        return add_report(root)
    found = [f"docs/{place}:{line}: {what}: {_marked(drawing)}" for what, place, line, drawing in _DRAWN.findall(said)]
    found += [f"docs/{place}: {what}" for what, place in _PLAIN.findall(said)]
    return found or [line for line in said.strip().splitlines()[-15:] if line.strip()]


def add_report(root: Path) -> list[str]:
    """Write the report of a folder's results into its site, with a way back to the page of results."""
    from ctbench import compare
    from ctbench.errors import CTBenchError
    from ctbench.reporting.page.html import render_report

    try:
        found = compare(root / "results", strict=True)
        page = render_report(found, back=("results.html", "Results"))
    except CTBenchError as error:
        return [f"results: {error}"]
    (root / "site" / REPORT).write_text(page, encoding="utf-8")
    return []


def _marked(drawing: str) -> str:
    """Return the part of the source line that the drawing underlines."""
    lines = drawing.splitlines()
    source = next((line for line in lines if re.match(r"\s*\d+ │ ", line)), "")
    under = next((line for line in lines if "─┬─" in line or "┬" in line), "")
    marks = [number for number, letter in enumerate(under) if letter in "─┬"]
    return source[marks[0] : marks[-1] + 1].strip() if marks and source else ""


if __name__ == "__main__":
    mistakes = build(ROOT)
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    if mistakes:
        print(f"the site was not built: {len(mistakes)} mistake(s)", file=sys.stderr)
    else:
        print(f"built: site/index.html, site/{REPORT}")
    sys.exit(1 if mistakes else 0)
