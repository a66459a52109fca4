from __future__ import annotations

import pytest
from small_streams import write_method

from ctbench.errors import BadConfig, BadPlugin, UnknownName
from ctbench.method import Method, configure, hyper
from ctbench.plugins.find import find_plugin, find_plugins, get_method, get_stream
from ctbench.plugins.source import describe_method, source_digest


class Sample(Method):
    share: float = hyper(0.5, low=0.0, high=1.0)
    """A share."""
    count: int = hyper(3, low=1)
    """A count."""
    flag: bool = hyper(True)
    """A flag."""
    word: str = hyper("a", choices=("a", "b"))
    """A word."""


def test_settings_take_whole_numbers_for_numbers():
    assert configure(Sample, "sample", {"share": 1}).settings() == {"share": 1.0, "count": 3, "flag": True, "word": "a"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("share", -0.1, "from 0.0 to 1.0"),
        ("share", float("nan"), "finite"),
        ("share", "much", "a finite number from"),
        ("count", 0, "at least 1"),
        ("count", 2.5, "a whole number"),
        ("count", True, "a whole number"),
        ("flag", 1, "true or false"),
        ("word", "c", "one of 'a', 'b', found 'c'"),
        ("word", 3, "one of 'a', 'b'"),
    ],
)
def test_bad_setting_is_refused_with_field_value_and_range(key, value, words):
    with pytest.raises(BadConfig, match=words) as caught:
        configure(Sample, "sample", {key: value})
    assert f"method.{key} of sample" in str(caught.value)


def test_a_method_that_is_made_directly_is_checked_alike():
    with pytest.raises(BadConfig, match=r"method\.share of sample: must be a finite number from 0.0 to 1.0, found 2"):
        Sample(share=2)
    assert type(Sample(share=1).share) is float


@pytest.mark.parametrize("limits", [{"low": "x"}, {"high": object()}, {"choices": ([1], [2])}])
def test_limits_that_do_not_fit_the_type_are_refused(limits):
    class Odd(Method):
        count: int = hyper(1, **limits)

    with pytest.raises(BadPlugin, match=r"method\.count of odd: low, high or choices do not fit its type"):
        configure(Odd, "odd", {})


def test_unknown_setting_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'share'"):
        configure(Sample, "sample", {"shar": 1})


def test_method_is_frozen_and_final():
    with pytest.raises(AttributeError):
        Sample().share = 0.1
    with pytest.raises(BadPlugin, match="final"):

        class Deeper(Sample):
            pass


def test_listing_reads_names_and_fields_without_importing():
    plugins = find_plugins("method")
    assert {"naive", "replay", "hyperprompt"} <= set(plugins)
    described = describe_method(plugins["replay"])
    assert described.paper == "arXiv:2403.08763"
    assert described.traits == {"stores_text": True}
    assert described.fields[0].name == "replay_fraction"
    assert described.fields[0].help.startswith("Share of each batch")


def test_whole_numbers_and_floats_are_taken_for_each_other_where_nothing_is_lost(tmp_path):
    path = write_method(tmp_path, "share: float = hyper(1)\ncount: int = hyper(3)")
    method = get_method(str(path), share=0.5, count=2e3)
    assert (method.share, method.count) == (0.5, 2000)
    assert type(method.count) is int
    with pytest.raises(BadConfig, match="must be a whole number"):
        get_method(str(path), count=0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('weight: float = hyper("a", low=0.0)', "weight of Mine is declared float and has the default 'a'"),
        ("weight: int = hyper(0.5)", "weight of Mine is declared int and has the default 0.5"),
        ("weight: int = hyper(True)", "weight of Mine is declared int and has the default True"),
    ],
)
def test_a_default_of_another_type_than_declared_is_refused(tmp_path, line, message):
    with pytest.raises(BadPlugin, match=message):
        get_method(str(write_method(tmp_path, line)))


def test_every_setting_of_every_method_has_a_help_text():
    for plugin in find_plugins("method").values():
        described = describe_method(plugin)
        assert described.summary, plugin.name
        assert all(field.help for field in described.fields), plugin.name


def test_unknown_method_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'naive'"):
        get_method("naiv")


def test_digest_ignores_docstrings_and_comments_but_not_code(tmp_path):
    def digest(body):
        return source_digest(find_plugin("method", str(write_method(tmp_path, body))))

    first = digest('x: float = hyper(1.0)\n"""One help."""')
    assert digest('x: float = hyper(1.0)  # why\n"""Another help."""') == first
    assert digest('x: float = hyper(2.0)\n"""One help."""') != first


def test_digest_ignores_the_range_to_tune_over_but_no_other_argument(tmp_path):
    def digest(arguments):
        return source_digest(find_plugin("method", str(write_method(tmp_path, f"x: float = hyper(1.0{arguments})"))))

    assert digest(", tune=(1.0, 2.0)") == digest(", tune=(3.0,)") == digest("")
    assert digest(", low=0.0, tune=(1.0, 2.0)") != digest(", tune=(1.0, 2.0)")


def test_digest_is_the_same_under_every_python(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ctbench import Method\n\n\nclass Mine(Method):\n    def begin(self, stage) -> None:\n        pass\n"
    )
    assert (
        source_digest(find_plugin("method", str(path)))
        == "51535ba56d23ca7b62d2839d8d1fbc067dab138e9f21a9d76b35a743ea6086db"
    )


OLD_IMPORTS = """
from typing import TYPE_CHECKING
import torch
from ctbench.backbone import Batch
from ctbench.kernels import drop
from ctbench.memory import Reservoir
from ctbench.method import Method, Traits, hyper
from ctbench.plan import Plan, one_per_domain
if TYPE_CHECKING:
    from ctbench.data.stream import Stream
    from ctbench.stage import Stage
"""
NEW_IMPORTS = """
from typing import TYPE_CHECKING
import torch
from ctbench import Batch, Method, Plan, Reservoir, Traits, drop, hyper, one_per_domain
if TYPE_CHECKING:
    from ctbench import Stage, Stream
"""
MINE = "class Mine(Method):\n    def plan(self, stream) -> Plan:\n        return one_per_domain(stream.names)\n"


def file_digest(folder, text):
    path = folder / "mine.py"
    path.write_text(text)
    return source_digest(find_plugin("method", str(path)))


def test_where_a_name_of_ctbench_is_imported_from_does_not_change_the_digest(tmp_path):
    assert file_digest(tmp_path, OLD_IMPORTS + MINE) == file_digest(tmp_path, NEW_IMPORTS + MINE)
    assert get_method(str(tmp_path / "mine.py")).plan(get_stream("domain")).parents == (0,) * 5


def test_a_method_file_with_the_imports_of_before_still_loads(tmp_path):
    file_digest(tmp_path, OLD_IMPORTS + MINE)
    assert get_method(str(tmp_path / "mine.py")).plan(get_stream("domain")).parents == (0,) * 5


@pytest.mark.parametrize(
    "line", ["from numpy import drop", "from ctbench.masking import Masker as drop", "import ctbench.errors as torch"]
)
def test_other_imports_and_other_names_change_the_digest(tmp_path, line):
    assert file_digest(tmp_path, NEW_IMPORTS + line + "\n" + MINE) != file_digest(tmp_path, NEW_IMPORTS + MINE)


@pytest.mark.parametrize("body", ["def f(:", "x: int = nothing"])
def test_broken_file_is_one_line_that_names_it(tmp_path, body):
    with pytest.raises(BadPlugin, match="mine") as caught:
        get_method(str(write_method(tmp_path, body)))
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused():
    with pytest.raises(BadPlugin, match=r"no method file 'nowhere\.py'"):
        find_plugin("method", "nowhere.py")
