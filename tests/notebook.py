"""Execute the notebook of docs/examples and write its outputs into it: `python tests/notebook.py`.

The cells run in this process, one after the other, as a kernel would run them: the value of a last expression is shown, and
what is printed. So neither CI nor an author needs a notebook server. The notebook is the one place where its code lives.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent / "docs" / "examples" / "first-look.ipynb"


def execute(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a notebook with the outputs of its cells, run in a folder; errors are raised."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    with contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                outputs = list(_run("".join(cell["source"]), names))
                cell = {**cell, "execution_count": count, "outputs": outputs}
                for output in outputs:
                    if output["output_type"] == "execute_result":
                        output["execution_count"] = count
            cells.append(cell)
    return {**notebook, "cells": cells}


def _run(source: str, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    if printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
    if value is not None:
        yield {"output_type": "execute_result", "metadata": {}, "data": _data(value)}


def _data(value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()):
        data["text/html"] = html.splitlines(keepends=True)
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=80)
        data["image/png"] = base64.b64encode(picture.getvalue()).decode("ascii")
    return data


def main() -> None:
    """Execute the notebook in an empty folder and write it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTBENCH_HOME"] = str(Path(folder) / "home")  # a reader's is empty too
        done = execute(json.loads(NOTEBOOK.read_text(encoding="utf-8")), Path(folder))
    NOTEBOOK.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {NOTEBOOK.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
