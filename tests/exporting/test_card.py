"""The model card of an exported LM has the scores that were measured with this LM, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ctbench
from ctbench.exporting.card import model_card
from ctbench.exporting.source import Request, RowLM, _choose
from ctbench.results.files import read_results

ROOT = Path(ctbench.__file__).parent.parent / "results" / "domain" / "tiny"


@pytest.mark.parametrize(
    ("method", "row", "context", "listed"),
    [
        ("separate", 5, "domain-2", ["domain-2"]),
        ("separate", 1, "domain-1", ["domain-1"]),
        ("separate", 3, "domain-4", ["domain-4", "domain-5"]),
        ("demix", 5, "domain-2", ["domain-2"]),
        ("naive", 3, None, [f"domain-{number}" for number in range(1, 6)]),
        ("separate", 0, None, [f"domain-{number}" for number in range(1, 6)]),
    ],
)
def test_a_card_lists_the_domains_that_its_lm_serves(method, row, context, listed):
    result = next(result for result in read_results(ROOT / method).results if not result.changed)
    domain, stage = _choose(Request(result=result, row=row, context=context), row)
    found = RowLM(backbone=None, method=None, row=row, stage=stage, context=domain)
    card = model_card(result, found, architecture="ModernBertForMaskedLM", loader="AutoModelForMaskedLM")
    scores = dict(re.findall(r"^\| (domain-\d) \| accuracy \| ([\d.]+) \|", card, flags=re.MULTILINE))
    columns = {name: result.matrix[row, index] for index, name in enumerate(result.stream.domains)}
    assert scores == {name: f"{100 * columns[name]:.1f}" for name in listed}
    assert ("not listed" in card) is (len(listed) < 5)
    assert ("before any stage of" in card) is (stage == 0)
