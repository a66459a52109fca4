"""A method's own files: which of them its digest reads, for a file given by path and for an installed package."""

from __future__ import annotations

import pytest

from ctbench.errors import BadPlugin
from ctbench.plugins.neighbours import neighbours
from ctbench.plugins.plugin import Plugin
from ctbench.plugins.source import source_digest

METHOD = '"""Third: x."""\nimport numpy\nfrom ctbench import Method\n{}\n\nclass Third(Method):\n    pass\n'
IMPORTS = (
    "from third_party._helper import SCALE",
    "from third_party import _helper",
    "import third_party._helper",
    "from ._helper import SCALE",
    "from . import _helper",
    "from .deep.inner import SCALE",
)


def package(folder, line):
    """A registered package: the method imports a helper, directly or through a module in a sub-package."""
    root = folder / "third_party"
    (root / "deep").mkdir(parents=True)
    for place in (root, root / "deep"):
        (place / "__init__.py").write_text("")
    (root / "_helper.py").write_text("SCALE = 1.0\n")
    (root / "unused.py").write_text("SCALE = 1.0\n")
    (root / "deep" / "inner.py").write_text("from .._helper import SCALE\n")
    (root / "third.py").write_text(METHOD.format(line))
    return Plugin(kind="method", name="third", path=root / "third.py", module="third_party.third")


@pytest.mark.parametrize("line", IMPORTS)
def test_a_registered_method_has_another_digest_when_its_helper_has_changed(tmp_path, line):
    plugin = package(tmp_path, line)
    before = source_digest(plugin)
    (tmp_path / "third_party" / "unused.py").write_text("SCALE = 2.0\n")
    assert source_digest(plugin) == before
    (tmp_path / "third_party" / "_helper.py").write_text("SCALE = 100.0\n")
    assert source_digest(plugin) != before


def test_what_is_installed_elsewhere_is_no_file_of_its_own(tmp_path):
    assert neighbours(package(tmp_path, "import torch\nimport typer")) == []


@pytest.mark.parametrize("module", ["third_party.third", None])
def test_a_helper_that_cannot_be_parsed_is_named(tmp_path, module):
    plugin = package(tmp_path, "from third_party._helper import SCALE" if module else "from _helper import SCALE")
    (tmp_path / "third_party" / "_helper.py").write_text("SCALE = = 1\n")
    given = Plugin(kind="method", name="third", path=plugin.path, module=module)
    with pytest.raises(BadPlugin, match=r"a file that a method imports cannot be read \(_helper.py, line 1"):
        source_digest(given)
