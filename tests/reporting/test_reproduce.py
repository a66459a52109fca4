"""The command that reproduces a result asks for the recipe that the result has."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from ctbench.engine.recipes import choose_recipe
from ctbench.reporting.reproduce import command_line
from ctbench.results.files import read_results

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def committed():
    return read_results(RESULTS / "domain" / "tiny" / "naive").results[0]


@pytest.mark.parametrize(
    ("model", "recipe", "is_named"),
    [
        ("tiny", "default", False),
        ("tiny", "causal", True),
        ("a/b", "default", True),
        ("a/b", "checkpoint", True),
    ],
)
def test_the_command_leads_to_the_recipe_of_the_result(model, recipe, is_named, committed):
    result = dataclasses.replace(
        committed,
        backbone=dataclasses.replace(committed.backbone, name=model),
        recipe=dataclasses.replace(committed.recipe, name=recipe),
    )
    words = shlex.split(command_line(result))
    named = words[words.index("--recipe") + 1] if "--recipe" in words else None
    assert (named is not None) == is_named
    assert choose_recipe("domain", model=model, recipe=named, settings={}).recipe.name == recipe


def test_without_its_name_a_checkpoint_would_get_another_recipe():
    assert choose_recipe("domain", model="a/b", recipe=None, settings={}).recipe.name == "checkpoint"
