"""The generated parts of the README: `python tests/readme.py` writes them, a test checks that they have not drifted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def methods() -> str:
    """Return the table of methods, read from their files."""
    from ctbench.plugins import describe_method, find_plugins

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
    """Return the rows of the table of laws."""
    from ctbench.laws import LAWS, sentence

    return "".join(f"| {name} | {sentence(law)} |\n" for name, law in LAWS.items())


def leaderboard() -> str:
    """Return the leaderboards of the committed results."""
    command = [sys.executable, "-m", "ctbench", "compare", "--format", "markdown", "--results", str(ROOT / "results")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def generated(text: str) -> str:
    """Return the README with its generated parts made anew."""
    makers = {"methods": methods, "mine": mine, "laws": laws, "leaderboard": leaderboard}
    return _BLOCK.sub(lambda found: f"{found[1]}{makers[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    README.write_text(generated(README.read_text(encoding="utf-8")), encoding="utf-8")
