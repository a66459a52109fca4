"""Synthetic result records: the shape of real ones, numbers from a small model of learning and forgetting."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ctbench.results.format import result_from
from ctbench.results.metrics import all_metrics
from ctbench.results.schema import Result
from ctbench.results.writing import write_result

DOMAINS = ("harbour", "kitchen", "garden", "theatre", "station")
MARKUP = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
"""A name that would act in a page that does not escape it."""

SKILLS = {"naive": (0.135, 0.05, 0.055), "replay": (0.125, 0.02, 0.045), "hyperprompt": (0.133, 0.03, 0.02)}
"""By method: what a stage gains, what each later stage forgets, what each stage costs unseen domains."""


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def fake_scores(method: str, seed: int, order: int, num_tasks: int, num_seeds: int, shape: str) -> np.ndarray:
    """Scores [num_seeds, T+1, T] in [0, 1] with effects of the method, the run and the fine-tuning seed."""
    gain, forget, unseen = SKILLS.get(method, (0.12, 0.03, 0.03))
    forget = 0.0 if shape == "joint" else forget
    generator = np.random.default_rng(int(digest(method, seed, order)[:12], 16))
    shared = np.random.default_rng(1000 + seed).normal(0, 0.006, size=(num_tasks + 1, num_tasks))
    shared[0] = 0.0
    base = 0.80 + np.random.default_rng(7).normal(0, 0.02, size=num_tasks)
    matrix = np.tile(base, (num_tasks + 1, 1))
    for row in range(1, num_tasks + 1):
        for column in range(num_tasks):
            age = row - (column + 1)
            change = gain - forget * age if age >= 0 else -unseen * min(row, 3) / 2
            matrix[row, column] += change + shared[row, column] + generator.normal(0, 0.004)
    noise = np.random.default_rng(11).normal(0, 0.004, size=(num_seeds, num_tasks + 1, num_tasks))
    noise[:, 1:] += generator.normal(0, 0.003, size=(num_seeds, num_tasks, num_tasks))
    return np.clip(np.round(matrix + noise, 4), 0.0, 1.0)


def fake_plan(num_tasks: int, shape: str, domains: tuple[str, ...]) -> dict:
    if shape == "joint":
        cells = [[0] * num_tasks, *[[None] * num_tasks] * (num_tasks - 1), [1] * num_tasks]
        return {"stages": [list(domains)], "parents": [0], "cells": cells}
    if shape == "separate":
        cells = [[j + 1 if j < row else 0 for j in range(num_tasks)] for row in range(num_tasks + 1)]
        return {"stages": [[d] for d in domains], "parents": [0] * num_tasks, "cells": cells}
    cells = [[0] * num_tasks, *[[row] * num_tasks for row in range(1, num_tasks + 1)]]
    return {"stages": [[d] for d in domains], "parents": list(range(num_tasks)), "cells": cells}


def apply_plan(scores: np.ndarray, plan: dict) -> np.ndarray:
    """Let cells with the source 0 repeat row 0, cells of one stage repeat each other, and absent ones be NaN."""
    scores = scores.copy()
    first: dict[tuple[object, int], int] = {}
    for row, cells in enumerate(plan["cells"]):
        for column, source in enumerate(cells):
            origin = first.setdefault((source, column), row)
            scores[:, row, column] = np.nan if source is None else scores[:, origin, column]
    return scores


def fake_record(
    method: str = "naive",
    *,
    seed: int = 0,
    order: int = 0,
    stream: str = "domain",
    num_tasks: int = 5,
    num_seeds: int = 2,
    shape: str = "chain",
    protocol: str = "5e1f0a9b7c3d2e48",
    precision: str = "bf16",
    changed: dict | None = None,
    registered: bool = True,
) -> dict:
    domains = tuple(np.array(DOMAINS + tuple(f"domain{i}" for i in range(5, num_tasks)))[:num_tasks].tolist())
    if order:
        domains = tuple(np.random.default_rng(order).permutation(domains).tolist())
    plan = fake_plan(num_tasks, shape, domains)
    scores = apply_plan(fake_scores(method, seed, order, num_tasks, num_seeds, shape), plan)
    record = {
        "schema": 2,
        "key": digest(method, seed, order, stream, protocol, precision, changed),
        "stream": fake_stream(stream, domains),
        "method": fake_method(method, changed or {}, registered),
        "backbone": {
            "name": "tiny",
            "slug": "tiny",
            "digest": digest("tiny"),
            "objective": "mlm",
            "parameters": 700_000,
        },
        "recipe": {
            "name": "default",
            "base": {"tokens": 2_000_000},
            "pretrain": {"objective": "auto", "tokens": 332_800, "batch": 32, "length": 26, "lr": 1e-3},
            "finetune": {"epochs": 10, "lr": 1e-3, "batch": 16, "seeds": list(range(num_seeds))},
        },
        "seed": seed,
        "order": order,
        "precision": precision,
        "protocol": protocol,
        "changed": changed or {},
        "not_comparable": [f"{key} was set" for key in changed or {} if not key.startswith("method.")],
        "plan": plan,
        "provenance": fake_provenance(),
        "findings": [],
    }
    return record | fake_numbers(record, scores)


def fake_stream(name: str, domains: tuple[str, ...]) -> dict:
    return {
        "name": name,
        "version": 1,
        "kind": "temporal" if name == "temporal" else "domain",
        "summary": "Synthetic language whose domains share a lexicon",
        "domains": list(domains),
        "digest": digest(name),
        "registered": True,
        "metric": dict.fromkeys(domains, "accuracy"),
        "majority": dict.fromkeys(domains, 0.13),
        "bayes": dict.fromkeys(domains, 0.98),
    }


def fake_method(name: str, changed: dict, registered: bool) -> dict:
    settings = {key.removeprefix("method."): value for key, value in changed.items() if key.startswith("method.")}
    return {
        "name": name,
        "version": 1,
        "digest": digest(name, "source"),
        "settings": {"agree_weight": 1.0, "disagree_weight": 0.1} | settings if name == "hyperprompt" else settings,
        "registered": registered,
        "traits": {"stores_text": name == "replay", "needs_domain": name == "separate", "grows": False},
        "summary": f"The {name} method",
        "paper": "2310.13024" if name == "hyperprompt" else None,
    }


def fake_backbone() -> dict:
    return {"name": "tiny", "slug": "tiny", "digest": digest("tiny"), "objective": "mlm", "parameters": 700_000}


def fake_provenance() -> dict:
    return {
        "ctbench": "0.1.0",
        "python": "3.11.2",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "platform": "Linux x86_64",
        "processor": "x86_64",
        "num_cores": 2,
        "git": "0123abc",
        "date": "2026-11-23T09:30:00Z",
    }


def fake_numbers(record: dict, scores: np.ndarray) -> dict:
    """Everything in a record that follows from its scores [num_seeds, T+1, T] and its plan."""
    plan, method, seed = record["plan"], record["method"]["name"], record["seed"]
    matrix = scores.mean(axis=0)
    loss = np.where(np.isnan(matrix), np.nan, 4.0 - 2.0 * matrix)
    stages = [fake_stage(number, names, (method, seed, number)) for number, names in enumerate(plan["stages"], start=1)]
    return {
        "matrix": to_lists(matrix),
        "cells": fake_cells(record, scores),
        "lm_loss": to_lists(loss),
        "control": {"scores": (matrix[0] + 0.01).tolist(), "lm_loss": (loss[0] - 0.05).tolist(), "tokens": 1_664_000},
        "metrics": all_metrics(matrix),
        "stages": stages,
        "cost": {
            "tokens": sum(stage["tokens"] for stage in stages),
            "forward_tokens": sum(stage["forward_tokens"] for stage in stages),
            "seconds": sum(stage["seconds"] for stage in stages),
            "peak_memory_bytes": 613_000_000,
            "added_parameters": 21_000 if method == "hyperprompt" else 0,
            "stored_bytes": 780_000 if method == "replay" else 0,
            "cell_seconds": 61.5,
        },
    }


def fake_cells(record: dict, scores: np.ndarray) -> list[dict]:
    names = (record["method"]["name"], record["method"]["settings"], record["seed"], record["order"])
    cells = []
    for row, sources in enumerate(record["plan"]["cells"]):
        for column, source in enumerate(sources):
            if source is None:
                continue
            for finetune_seed in range(scores.shape[0]):
                score = float(scores[finetune_seed, row, column])
                macro = score - 0.01 * (int(digest(score, column, finetune_seed)[:6], 16) / 16**6)
                cells.append(
                    {
                        "row": row,
                        "domain": record["stream"]["domains"][column],
                        "finetune_seed": finetune_seed,
                        "source": digest((names, source) if source else "BASE"),
                        "key": digest(names, row, column, finetune_seed),
                        "score": score,
                        "metrics": {"accuracy": score, "macro_f1": macro, "micro_f1": score},
                        "validation_score": None,
                        "seconds": 0.9,
                    }
                )
    return cells


def fake_stage(number: int, domains: list[str], names: tuple[object, ...], num_steps: int = 40) -> dict:
    steps = np.arange(10, 10 * num_steps + 1, 10)
    generator = np.random.default_rng(int(digest(names)[:12], 16))
    curve = 2.4 + 1.4 * np.exp(-steps / 120) + generator.normal(0, 0.02, size=num_steps)
    return {
        "stage": number,
        "domains": list(domains),
        "key": digest("stage", names),
        "steps": steps.tolist(),
        "losses": {"loss": curve.tolist(), "lm": curve.tolist()},
        "notes": {},
        "tokens": 332_800 * len(domains),
        "forward_tokens": (665_600 if names[0] == "hyperprompt" else 332_800) * len(domains),
        "seconds": 6.1 * len(domains) * (1.8 if names[0] == "hyperprompt" else 1.0),
        "peak_memory_bytes": 613_000_000,
        "added_parameters": 0,
        "trained_parameters": 700_000,
        "stored_bytes": 0,
        "weights_digest": digest("weights", names),
        "changed": True,
    }


def to_lists(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


def fake_result(method: str = "naive", **settings: object) -> Result:
    return result_from(fake_record(method, **settings))


def with_matrix(record: dict, rows: object) -> dict:
    """The same record with other scores; rows [T+1, T], the same under every fine-tuning seed."""
    matrix = np.array(rows, dtype=float)
    num_seeds = len(record["recipe"]["finetune"]["seeds"])
    return record | fake_numbers(record, np.repeat(matrix[None], num_seeds, axis=0))


def without_fine_tuning(record: dict, *domains: str) -> dict:
    """Return the record as if nothing were fine-tuned on some domains: one cell stands under all fine-tuning seeds."""
    first: dict[tuple[int, str], dict] = {}
    for cell in record["cells"]:
        if cell["domain"] in domains:
            twin = first.setdefault((cell["row"], cell["domain"]), cell)
            cell |= {each: twin[each] for each in ("key", "score", "metrics")}
    return record


def write_fakes(folder: Path, *, methods: tuple[str, ...] = tuple(SKILLS), seeds: int = 3, **settings: object) -> None:
    for method in methods:
        for seed in range(seeds):
            write_result(fake_result(method, seed=seed, **settings), folder)


def agreeing(record: dict) -> dict:
    """Return the record with the matrix that its cells have, and with the metrics of that matrix."""
    columns = {domain: column for column, domain in enumerate(record["stream"]["domains"])}
    scores: dict[tuple[int, int], list] = {}
    for cell in record["cells"]:
        scores.setdefault((cell["row"], columns[cell["domain"]]), []).append(cell["score"])
    matrix = [list(row) for row in np.asarray(record["matrix"], dtype=object).tolist()]
    for (row, column), values in scores.items():
        matrix[row][column] = None if None in values else float(np.mean(values))
    return record | {"matrix": matrix, "metrics": all_metrics(np.array(matrix, dtype=np.float64))}
