"""Any TOML is a stream, or is refused in one line: mostly valid keys and values, some changed, some bytes broken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, mutate, outcome

from ctbench.data.inspect import inspect_stream
from ctbench.data.stream import Stream, load_stream
from ctbench.plugins.find import find_plugins

VALUES = st.one_of(
    st.integers(-3, 10**7).map(str),
    st.floats().map(lambda number: repr(number) if number == number and abs(number) < 1e300 else "nan"),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "")),
    st.sampled_from(
        ["[]", "[1, 2]", '["a.txt", "*"]', "{}", "1979-05-27", "9" * 5000, "[" * 400 + "]" * 400, '"a\\u0000b"']
    ),
)
KEYS = {
    "": (
        "kind",
        "summary",
        "name",
        "version",
        "citation",
        "licences",
        "root",
        "model",
        "max_train",
        "max_test",
        "recipe",
    ),
    "pretrain": ("tokens", "batch", "length", "lr", "objective", "precision", "schedule", "threads", "compiled"),
    "base": ("tokens", "batch", "length", "mask_fraction"),
    "finetune": ("epochs", "lr", "seeds", "batch", "max_length", "head", "pooling", "dropout"),
    "general": ("source", "path", "format", "document", "field"),
    "language": ("seed", "num_domains", "sharing", "num_documents"),
    "recipes.small.pretrain": ("tokens", "lr"),
    "domains": ("name", "text", "task", "held_out"),
    "nothing": ("x",),
}
GOOD = {
    "": {"kind": '"domain"', "summary": '"fuzz"'},
    "pretrain": {"tokens": "1000"},
    "general": {"source": '"files"', "path": '"g.txt"'},
}
DOMAIN = """
[[domains]]
name = "{name}"
text = {{ source = "files", path = {path}{dialect} }}
task = {{ source = "files", train = {train} }}
"""


@st.composite
def streams(draw):
    """Write a stream whose tables are the valid ones, with some keys set to anything."""
    tables = {name: dict(values) for name, values in GOOD.items()}
    for _ in range(draw(st.integers(0, 3))):
        table = draw(st.sampled_from(sorted(KEYS)))
        tables.setdefault(table, {})[draw(st.sampled_from(KEYS[table]))] = draw(VALUES)
    text = "".join(f"{key} = {value}\n" for key, value in tables.pop("").items())
    for table, values in tables.items():
        if table == "domains":
            continue
        text += f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
    dialects = ("", ', dialect = { quoting = "none" }', ', dialect = { delimiter = "ab" }', ", dialect = 3")
    dialect = draw(st.sampled_from(dialects))
    paths = st.sampled_from(
        ['"a.txt"', '"*.txt"', '["a.txt", "b.csv"]', '"b.csv"', '"no.txt"', '"."', "3", '"pipe.txt"']
    )
    for name in draw(st.lists(st.sampled_from(["a", "b", "c", "general"]), max_size=3)):
        train = draw(st.sampled_from(['"b.csv"', '"c.jsonl"', '"a.txt"', '"pipe.txt"']))
        text += DOMAIN.format(name=name, path=draw(paths), dialect=dialect, train=train)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import os

    root = tmp_path_factory.mktemp("streams")
    (root / "a.txt").write_text("".join(f"one two {n}\n" for n in range(30)))
    (root / "g.txt").write_text("".join(f"three four {n}\n" for n in range(30)))
    (root / "b.csv").write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(24)))
    (root / "c.jsonl").write_text("".join(json.dumps({"text": f"text {n}", "label": n % 2}) + "\n" for n in range(24)))
    os.mkfifo(root / "pipe.txt")
    return root


@given(streams(), CHANGES)
def test_any_stream_is_read_or_refused(folder, text, changes):
    (folder / "s.toml").write_bytes(mutate(text.encode("utf-8", "replace"), changes))
    stream = outcome(lambda: load_stream(folder / "s.toml", registered=False))
    if isinstance(stream, Stream) and stream.language is None and stream.root == ".":
        outcome(lambda: inspect_stream(stream))


@given(
    st.dictionaries(
        st.sampled_from(
            [f"{table}.{key}" for table, keys in KEYS.items() for key in keys if table and "." not in table]
        )
        | st.sampled_from(["stream.root", "stream.max_train", "pretrain", "x.y", "."]),
        st.one_of(VALUES, st.text(max_size=6)),
        min_size=1,
        max_size=3,
    )
)
def test_any_setting_is_taken_or_refused(settings):
    path = find_plugins("stream")["domain"].path
    outcome(lambda: load_stream(path, registered=True, settings=settings))


def test_the_stream_that_is_changed_is_valid(folder):
    text = ""
    for table, values in GOOD.items():
        text += (f"[{table}]\n" if table else "") + "".join(f"{key} = {value}\n" for key, value in values.items())
    (folder / "s.toml").write_text(text + DOMAIN.format(name="a", path='"a.txt"', dialect="", train='"b.csv"'))
    assert inspect_stream(load_stream(folder / "s.toml", registered=False)).problems == ()
