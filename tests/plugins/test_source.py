"""Reading the source of a method."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from ctbench.errors import BadPlugin
from ctbench.plugins.find import find_plugin, load_class
from ctbench.plugins.source import parse_method, source_digest

SOURCE = '"""Mine."""\nfrom ctbench import Method\nclass Mine(Method):\n    """Mine."""\n    x: int = 1\n'


def test_unchanged_file_is_parsed_once_and_a_changed_file_again(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    plugin = find_plugin("method", str(path))
    tree, digest = parse_method(plugin), source_digest(plugin)
    assert parse_method(plugin) is tree
    path.write_text(SOURCE.replace("x: int = 1", "x: int = 2"))
    assert parse_method(plugin) is not tree
    assert source_digest(plugin) != digest
    path.write_text(SOURCE)
    assert source_digest(plugin) == digest


def test_digest_leaves_the_shared_tree_unchanged(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    plugin = find_plugin("method", str(path))
    before = ast.dump(parse_method(plugin))
    source_digest(plugin)
    assert ast.dump(parse_method(plugin)) == before


BESIDE = '"""Mine."""\nimport helper\nfrom ctbench import Method\nclass Mine(Method):\n    """Mine."""\n    x: int = helper.X\n'


def test_a_method_file_imports_what_lies_beside_it_and_its_digest_follows(tmp_path):
    found = []
    for number, folder in enumerate((tmp_path / "a", tmp_path / "b"), start=1):
        folder.mkdir()
        (folder / "mine.py").write_text(BESIDE + f"# {number}\n")
        (folder / "helper.py").write_text(f"X = {number}\n")
        plugin = find_plugin("method", str(folder / "mine.py"))
        found.append((load_class(plugin).x, source_digest(plugin)))
    assert [x for x, _ in found] == [1, 2]
    assert found[0][1] != found[1][1]
    assert "helper" not in sys.modules
    assert str(tmp_path / "a") not in sys.path


def test_a_file_beside_a_method_hides_no_module_and_does_not_enter_its_digest(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE.replace("class", "import json\nassert json.dumps({})\nclass"))
    plugin = find_plugin("method", str(path))
    before = source_digest(plugin)
    (tmp_path / "json.py").write_text("raise SystemExit('owned')\n")
    (tmp_path / "ctbench.py").write_text("raise SystemExit('owned')\n")
    assert load_class(plugin).x == 1
    assert source_digest(plugin) == before


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = " + "(" * 5000 + ")" * 5000, "line 1: too many nested parentheses"),
        ("x = " + "+".join(["1"] * 100_000), "nested too deeply"),
        ("x = " + "-" * 100_000 + "1", "cannot be read"),
        ("x = 1\0", "cannot be read"),
        ("x = " + "9" * 6001, "cannot be read"),
        ("\xff", "not UTF-8"),
    ],
    ids=["parentheses", "sum", "signs", "zero", "digits", "bytes"],
)
def test_a_file_that_python_cannot_parse_is_one_line(tmp_path, source, words):
    path = tmp_path / "mine.py"
    path.write_bytes(source.encode("latin-1") + b"\n" + SOURCE.encode())
    code = f"import sys\nfrom ctbench.cli import main\nsys.exit(main(['ls', 'methods', {str(path)!r}]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr[-2000:]
    assert words in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    plugin = find_plugin("method", str(path))
    with pytest.raises(BadPlugin):
        source_digest(plugin)


def test_the_hook_of_export_does_not_enter_the_digest_and_other_functions_of_its_name_do(tmp_path):
    path = tmp_path / "mine.py"
    hook = "    def bake(self, backbone, text):\n        return backbone\n"
    digests = []
    for source in (
        SOURCE,
        SOURCE + hook,
        SOURCE + hook.replace("bake", "build"),
        SOURCE + "def bake():\n    return 1\n",
    ):
        path.write_text(source)
        digests.append(source_digest(find_plugin("method", str(path))))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
