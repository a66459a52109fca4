"""The one parser of `--set`, and the one table of what it accepts."""

from __future__ import annotations

import numpy as np
import pytest

from ctbench.data.override import ACCEPTED, parse_setting, read_overrides, write_setting
from ctbench.errors import BadConfig


def test_setting_is_a_toml_value_or_plain_text():
    values = {
        "1": 1,
        "1e-3": 1e-3,
        "true": True,
        "[0, 1]": [0, 1],
        "fp32": "fp32",
        '"1"': "1",
        "": "",
        "1\nx = 2": "1\nx = 2",
    }
    assert {text: parse_setting(text) for text in values} == values


@pytest.mark.parametrize("value", [1, 1e6, 5e-4, True, [0, 1], "fp32", "1", "true", "", 'a "b"', float("inf")])
def test_a_written_setting_is_read_as_the_same_value(value):
    again = parse_setting(write_setting(value))
    assert (again, type(again)) == (value, type(value))


def test_texts_of_the_command_line_and_values_of_python_give_the_same_overrides():
    texts = ["pretrain.tokens=1e6", "finetune.seeds=[0]", "method.share=0.5", "method.on=hidden", 'stream.root="1"']
    values = {
        "pretrain.tokens": np.float64(1e6),
        "finetune.seeds": range(1),
        "method.share": np.float64(0.5),
        "method.on": "hidden",
        "stream.root": '"1"',
    }
    assert read_overrides(texts) == read_overrides(values)
    assert read_overrides(texts).method == {"share": 0.5, "on": "hidden"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["pretrain.tokens"], "expected KEY=VALUE"),
        (["tokens=5"], "expected a table before the key"),
        (["pretrian.tokens=5"], "did you mean 'pretrain.KEY'"),
        ({"metod.share": 5}, "did you mean 'method.KEY'"),
        ({"pretrain.tokens": None}, "expected a number"),
        ({"pretrain.tokens": {}}, "expected a number"),
        ("pretrain.tokens=5", "expected settings by key"),
    ],
)
def test_what_set_does_not_accept_is_refused_in_one_line(given, words):
    with pytest.raises(BadConfig, match=words) as caught:
        read_overrides(given)
    assert "\n" not in str(caught.value)


def test_every_table_is_named_where_none_fits():
    with pytest.raises(BadConfig) as caught:
        read_overrides({"x.y": 1})
    assert all(f"{table}.KEY" in str(caught.value) for table in ACCEPTED)
