"""Reads result files of older schemas: each step turns the record of one schema into that of the next."""

from __future__ import annotations

from typing import Any


def upgrade(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record in the newest schema; one that no step fits comes back as it is.

    Schema 1 called the untouched LM "BASE" and counted the parents of stages from 0. It did not hold the digest of the
    base's weights, so its results are of one unknown base.
    """
    if record.get("schema") != 1:
        return record
    plan = record.get("plan")
    if not isinstance(plan, dict):
        return record
    try:
        parents = [0 if parent == "BASE" else _whole(parent) + 1 for parent in plan["parents"]]
        cells = [[0 if source == "BASE" else source for source in row] for row in plan["cells"]]
    except (LookupError, TypeError):
        return record
    return record | {"schema": 2, "plan": plan | {"parents": parents, "cells": cells}}


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a parent is BASE or a whole number")
    return value
