"""The log of the loss terms: every column has a value at every point, and no term takes the name of another column."""

from __future__ import annotations

import re

import pytest
import torch

from ctbench.errors import BadPlugin
from ctbench.plugins.find import get_method
from ctbench.training.log import RESERVED, LossLog
from ctbench.training.pretrain import _checked


def logged(terms_of, num_steps=30):
    log = LossLog()
    for step in range(num_steps):
        terms = terms_of(step)
        log.add(step, {"loss": sum(terms.values())} | terms, gradient_norm=None)
        if (step + 1) % 10 == 0:
            log.flush(step + 1)
    return log


def lm(value=1.0):
    return {"lm": torch.tensor(value)}


def test_a_term_that_begins_late_counts_0_before():
    log = logged(lambda step: lm() | ({"aux": torch.tensor(float(step))} if step >= 15 else {}))
    assert log.steps == (10, 20, 30)
    assert log.losses["aux"] == pytest.approx((0.0, (15 + 16 + 17 + 18 + 19) / 10, 24.5))
    assert log.losses["loss"] == pytest.approx(
        [a + b for a, b in zip(log.losses["lm"], log.losses["aux"], strict=True)]
    )


def test_a_term_that_ends_early_counts_0_after():
    log = logged(lambda step: lm() | ({"aux": torch.tensor(2.0)} if step < 10 else {}))
    assert log.losses["aux"] == (2.0, 0.0, 0.0)
    assert log.losses["lm"] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", [*RESERVED, "aux/kd", "", 3])
def test_a_term_with_the_name_of_a_column_or_a_path_is_refused_in_the_first_update(name):
    with pytest.raises(BadPlugin, match=f"a term may not be called {re.escape(repr(name))}"):
        _checked(get_method("naive"), {name: torch.tensor(1.0, requires_grad=True)})


@pytest.mark.parametrize("name", ["aux", "kd-loss", "step 2"])
def test_other_names_are_taken(name):
    assert set(_checked(get_method("naive"), {name: torch.tensor(1.0, requires_grad=True)})) == {name}
