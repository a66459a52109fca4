"""Turn a `Result` into the text of its file and back, with one line about whatever does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ctbench.errors import BadResult, one_line
from ctbench.schema import SCHEMA, Result


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def result_from(record: Mapping[str, Any]) -> Result:
    """Return the `Result` that `record` describes, after validating exactly what would be written.

    Args:
        record: the content of a result file as dicts, sequences, numbers and strings. NumPy values are taken as well;
            NaN and infinity become null.

    Raises:
        BadResult: if a key is missing, unknown or of the wrong type, or a shape does not fit.
    """
    return parse(json.dumps(_plain(record)).encode(), "record")


def to_record(result: Result) -> dict[str, Any]:
    """Return the content of the result file as plain dicts, lists, numbers and strings."""
    record: dict[str, Any] = _adapter().dump_python(result, mode="json", exclude={"path"})
    return record


def to_text(result: Result) -> str:
    """Return the text of the result file: one top-level key, matrix row, cell or stage a line."""
    lines = []
    for key, value in to_record(result).items():
        if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
            items = ",\n".join("  " + _dump(item) for item in value)
            lines.append(f" {_dump(key)}: [\n{items}\n ]")
        else:
            lines.append(f" {_dump(key)}: {_dump(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(data: bytes, name: str) -> Result:
    """Return the `Result` in `data`, the bytes of a file that messages call `name`.

    Raises:
        BadResult: one line that says what is wrong.
    """
    try:
        result = _adapter().validate_json(data)
    except ValidationError as error:
        raise BadResult(f"{name}: {_diagnose(data, error)}") from None
    problem = _misfit(result)
    if problem:
        raise BadResult(f"{name}: {problem}")
    return result


def _diagnose(data: bytes, error: ValidationError) -> str:
    """Say in one line why `data` is no result of this schema."""
    try:
        content = json.loads(data.decode())
    except UnicodeDecodeError as problem:
        return f"corrupt: not UTF-8 (byte {problem.start})"
    except json.JSONDecodeError as problem:
        if data.strip() and not data.lstrip().startswith(b"{"):
            return "foreign: no JSON, so no result of ctbench"
        kind = "corrupt" if data.rstrip().endswith(b"}") else "truncated"
        return f"{kind}: not complete JSON (line {problem.lineno}, column {problem.colno})"
    except RecursionError:
        return "foreign: nested too deeply for a result"
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        return "foreign: JSON, but no result of ctbench (it has no schema number)"
    if not {"matrix", "stream", "method"} & set(content):
        return "foreign: JSON, but no result of ctbench (it has neither a matrix nor a stream nor a method)"
    if content["schema"] != SCHEMA:
        age = "older" if content["schema"] < SCHEMA else "newer"
        return f"{age}: schema {content['schema']}, this version reads {SCHEMA}; run it again or use another version"
    first, *others = error.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"]) or "file"
    more = f" (and {len(others)} more)" if others else ""
    return one_line(f"corrupt: {where}: {first['msg']}{more}")


def _misfit(result: Result) -> str | None:
    """Say which part of `result` has another shape than its domains and stages ask for."""
    num_tasks, domains = result.num_tasks, set(result.stream.domains)
    shape = (num_tasks + 1, num_tasks)
    if len(domains) < num_tasks:
        return "corrupt: stream.domains: a domain appears twice"
    tables = {"matrix": result.matrix.shape, "lm_loss": result.lm_loss.shape}
    widths = {len(row) for row in result.plan.cells} or {0}
    tables["plan.cells"] = (len(result.plan.cells), *widths)
    for name, found in tables.items():
        if found != shape:
            return f"corrupt: {name}: {num_tasks} domains ask for the shape {shape}, found {found}"
    if len(result.plan.parents) != len(result.plan.stages):
        return "corrupt: plan.parents: one parent for each stage is needed"
    numbers: Iterable[object] = (s for row in result.plan.cells for s in row if isinstance(s, int))
    if any(not 1 <= int(str(number)) <= len(result.plan.stages) for number in numbers):
        return f"corrupt: plan.cells: a stage outside 1..{len(result.plan.stages)}"
    for cell in result.cells:
        if cell.domain not in domains or not 0 <= cell.row <= num_tasks:
            return f"corrupt: cells: no cell ({cell.row}, {one_line(cell.domain)}) in this stream"
        if cell.score is not None and not 0.0 <= cell.score <= 1.0:
            return f"corrupt: cells: the score {cell.score} is outside [0, 1]"
    if result.seed < 0 or result.order < 0:
        return "corrupt: seed and order are numbers from 0 on"
    if ((result.matrix < 0.0) | (result.matrix > 1.0)).any():
        return "corrupt: matrix: a score is outside [0, 1]"
    control = result.control
    if control is not None and {len(control.scores), len(control.lm_loss)} != {num_tasks}:
        return f"corrupt: control: {num_tasks} numbers are needed"
    return None


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
