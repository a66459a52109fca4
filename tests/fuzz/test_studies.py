"""Any TOML is a study, or is refused in one line; what is taken expands into runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, mutate, outcome

from ctbench.engine.study import Study
from ctbench.errors import CTBenchError

GOOD = {
    "methods": '["naive", { name = "replay", replay_fraction = [0.1, 0.5] }]',
    "streams": '["domain"]',
    "seeds": '"0..2"',
    "set": '{ "pretrain.tokens" = [5e5, 1e6] }',
}
KEYS = [
    *GOOD,
    "name",
    "summary",
    "models",
    "recipes",
    "precisions",
    "orders",
    "reorder_periods",
    "control",
    "runs",
    "no",
]
VALUES = st.one_of(
    st.sampled_from(list(GOOD.values())),
    st.integers(-3, 10**7).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "")),
    st.sampled_from(
        [
            *("[]", "{}", '""', '["naive", "naive"]', '["naiv"]', '"naive,replay"', "[[]]", "[{}]", '["a\\u0000b"]'),
            *('"0..99999999"', '"5..2"', '"0.."', "[0, 0]", "[1.5]", "[true]", "9" * 5000, '"' + "9" * 5000 + '"'),
            *('{ name = "replay" }', "{ name = 3 }", "[{ replay_fraction = 0.1 }]", '{ name = "replay", nothing = 1 }'),
            *('{ "pretrain.tokens" = [] }', "{ pretrain = { tokens = [1, 2] } }", '{ "x.y" = 1 }', '{ "" = 1 }'),
            *('{ "pretrain.tokens" = 1979-05-27 }', "{ pretrain = { tokens = { a = 1 } } }", '{ "method.lr" = [[1]] }'),
            *('[{ methods = "naive" }]', '[{ set = { "pretrain.lr" = 1e-3 } }]', "[{ runs = [] }]", '[{ name = "x" }]'),
            *('"."', '"./no.toml"', '"~/no.py"', '"fp32,bf16"', '"fp16"', "[" * 300 + "]" * 300),
            "[" + ", ".join(map(str, range(3000))) + "]",
        ]
    ),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("studies") / "study.toml"


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=3), CHANGES)
def test_any_study_is_read_or_refused(path, changed, changes):
    keys = GOOD | dict(changed)
    text = "".join(f"{key} = {value}\n" for key, value in keys.items())
    path.write_bytes(mutate(text.encode("utf-8", "replace"), changes))
    outcome(lambda: Study(study=path).jobs, folder=path.parent)


@given(
    st.dictionaries(
        st.sampled_from(["method", "stream", "seed", "order", "recipe", "precision", "set", "model"]),
        st.one_of(
            st.text(max_size=8),
            st.integers(-3, 10**7),
            st.sampled_from(["naive", "0..2", "0,1", "9" * 5000, [], [0, None]]),
        ),
        max_size=3,
    )
)
def test_any_option_beside_a_study_is_taken_or_refused(path, options):
    path.write_text("".join(f"{key} = {value}\n" for key, value in GOOD.items()))
    outcome(lambda: Study(study=path, **options).jobs)


def test_the_study_that_is_changed_is_good_before(path):
    path.write_text("".join(f"{key} = {value}\n" for key, value in GOOD.items()))
    found = outcome(lambda: Study(study=path).jobs)
    assert not isinstance(found, CTBenchError), found
    assert len(found) == 6
