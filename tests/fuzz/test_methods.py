"""Any file of a method is a method, or is refused in one line; one that breaks at import is a broken plug-in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, mutate, outcome

from ctbench.method import Method
from ctbench.plugins.find import find_plugin, get_method, load_class
from ctbench.plugins.new import method_text
from ctbench.plugins.source import describe_method, source_digest

GOOD = method_text("mine")
VALUES = st.sampled_from(
    [
        "5",
        "None",
        "''",
        "'x' * 10",
        "()",
        "[1]",
        "{}",
        "-1",
        "1e400",
        "float('nan')",
        "10 ** 5000",
        "print",
        "lambda self: 0",
        "object()",
        "Traits",
        "Traits()",
        "Traits(grows=1)",
        "Traits(grows=not False)",
        "Traits(nothing=True)",
        "hyper(1)",
        "hyper(2.0, low=3)",
        "hyper('a', choices=('b',))",
        "hyper(0, low='x')",
        "hyper(None)",
        "hyper()",
        "missing_name",
        "1 / 0",
        "__import__('sys').exit(3)",
        "(" * 300 + "1" + ")" * 300,
        "+".join(["1"] * 20_000),
        "9" * 6001,
        "\x00",
        "...",
    ]
)
NAMES = st.sampled_from(
    [
        "traits",
        "paper",
        "version",
        "weight",
        "loss",
        "plan",
        "begin",
        "x: int",
        "y: ClassVar[int]",
        "needs_parts",
        "__eq__",
    ]
)
BASES = st.sampled_from(
    ["Method", "Method", "Method", "ctbench.Method", "Method, int", "object", "Method, Method", "type"]
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("methods") / "mine.py"


@given(st.lists(st.tuples(NAMES, VALUES), max_size=3), BASES, st.sampled_from(["", "class Other(Method):\n    pass\n"]))
def test_method_whose_class_holds_other_values(path, lines, bases, more):
    body = "".join(f"    {name} = {value}\n" for name, value in lines) or "    pass\n"
    head = '"""Mine: fuzz."""\nfrom typing import ClassVar\nimport ctbench\nfrom ctbench import Method, Traits, hyper\n'
    path.write_text(f"{head}class Mine({bases}):\n{body}{more}", encoding="utf-8")
    plugin = find_plugin("method", str(path))
    outcome(lambda: (describe_method(plugin), source_digest(plugin)))
    found = outcome(lambda: load_class(plugin))
    if isinstance(found, type) and issubclass(found, Method):
        outcome(lambda: get_method(str(path)).settings())


@given(CHANGES)
def test_method_whose_bytes_are_changed(path, changes):
    path.write_bytes(mutate(GOOD.encode(), changes))
    plugin = find_plugin("method", str(path))
    outcome(lambda: (describe_method(plugin), source_digest(plugin)))


@given(st.binary(max_size=200))
def test_any_bytes(path, content):
    path.write_bytes(content)
    plugin = find_plugin("method", str(path))
    outcome(lambda: (describe_method(plugin), source_digest(plugin)))


def test_the_method_that_is_changed_is_good_before(path):
    path.write_text(GOOD, encoding="utf-8")
    assert get_method(str(path)).settings() == {"weight": 0.1}
