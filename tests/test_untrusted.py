"""Files that others made are data: nothing is unpickled, evaluated or run by a shell, and no file hides a module."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_records import stage_record
from fake_results import fake_record
from small_streams import write_stream

import ctbench
from ctbench.backbone.loading import load_backbone
from ctbench.engine.launchers.process import start_serving
from ctbench.engine.store import Store
from ctbench.errors import CTBenchError
from ctbench.machine.manifest import Damaged
from ctbench.results.files import read_results

ROOT = Path(ctbench.__file__).parent.parent
SCANNED = ("ctbench", "methods", "benchmarks")
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "runpy",
    "pty",
    "commands",
}
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("os", "system"),
    ("os", "popen"),
    ("pandas", "read_pickle"),
    ("pd", "read_pickle"),
    ("np", "fromfile"),
    ("numpy", "fromfile"),
    ("torch", "compile_fx"),
}
KEYWORDS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Yield everything in a file that could run what another file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.ImportFrom):
            pairs = {(str(node.module).partition(".")[0], each.name) for each in node.names} & ATTRIBUTES
            yield from (f"{module}.{name}" for module, name in pairs)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            is_load = isinstance(node.func, ast.Attribute) and node.func.attr == "load"
            is_numpy = is_load and isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "numpy")
            if is_numpy and not any(word.arg == "allow_pickle" for word in node.keywords):
                yield "np.load without allow_pickle=False"
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else ...
                if word.arg in KEYWORDS and value is not (not KEYWORDS[word.arg]):
                    yield f"{word.arg}={ast.unparse(word.value)}"
        elif isinstance(node, ast.Attribute) and (ast.unparse(node.value), node.attr) in ATTRIBUTES:
            yield ast.unparse(node)


def test_no_file_of_ctbench_can_run_what_a_data_file_says() -> None:
    paths = [path for folder in SCANNED for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 150
    found = {str(path.relative_to(ROOT)): [*dangers(ast.parse(path.read_text(encoding="utf-8")))] for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as json",
        "from pickle import loads",
        "import yaml",
        "import marshal",
        "import shelve",
        "torch.load(path)",
        "from torch import load",
        "torch.load(path, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=is_shell)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "load(path, trust_remote_code=True)",
        "pd.read_pickle(path)",
    ],
)
def test_the_scan_finds_a_planted_danger(code: str) -> None:
    assert [*dangers(ast.parse(code))]


@pytest.mark.parametrize(
    "code",
    ["re.compile(x)", "np.load(p, allow_pickle=False)", "f(trust_remote_code=False)", "json.load(f)", "model.eval()"],
)
def test_the_scan_takes_nothing_harmless_for_a_danger(code: str) -> None:
    assert not [*dangers(ast.parse(code))]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_bomb_is_one(tmp_path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "owned")))
    assert (tmp_path / "owned").is_dir()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_in_place_of_weights_is_refused_and_not_run(checkpoint, tmp_path, name) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "owned")))
    with pytest.raises(CTBenchError) as refused:
        load_backbone(str(folder), online=False, objective="mlm")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("harmed", ["record.json", "weights.safetensors"])
def test_a_pickle_in_place_of_a_file_of_the_store_is_damage_and_not_run(tmp_path, harmed) -> None:
    from ctbench.engine.tensors import load_tensors, save_tensors

    store = Store(tmp_path / "store")
    with store.writing("ab" * 32, stage_record()) as folder:
        save_tensors(folder, "weights", {})
    folder = store.folder("ab" * 32)
    (folder / harmed).write_bytes(pickle.dumps(Bomb(tmp_path / "owned")))
    assert store.damage("ab" * 32) is not None
    with pytest.raises(Damaged):
        load_tensors(folder, "weights")
    assert not (tmp_path / "owned").exists()


def test_a_pickle_or_code_in_place_of_a_result_is_skipped_and_not_run(tmp_path) -> None:
    (tmp_path / "a.json").write_bytes(pickle.dumps(Bomb(tmp_path / "owned")))
    reduced = fake_record() | {"__reduce__": ["os.mkdir", [str(tmp_path / "owned")]], "py/reduce": ["os.mkdir"]}
    (tmp_path / "b.json").write_text(json.dumps(reduced))
    (tmp_path / "c.json").write_text(f"__import__('os').mkdir({str(tmp_path / 'owned')!r})")
    loaded = read_results(tmp_path)
    assert (len(loaded.results), len(loaded.skipped)) == (0, 3)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("start", [["-m", "ctbench"], ["-P", "-m", "ctbench"]])
def test_a_module_that_lies_in_the_current_directory_is_not_run(tmp_path, start) -> None:
    for name in ("json", "typer", "numpy", "torch", "ctbench", "runpy"):
        (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('owned')\n")
    (tmp_path / "ctbench.py").unlink()  # python -m looks for what it is asked for in the current directory first
    command = [sys.executable, *start, "ls", "models"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert not (tmp_path / "owned").exists()
    control = [sys.executable, "-m", "typer"]  # without ctbench in front, that is what Python does
    subprocess.run(control, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert (tmp_path / "owned").exists()


def test_a_worker_runs_no_module_that_lies_in_the_current_directory(tmp_path, monkeypatch) -> None:
    for name in ("json", "queue", "ctbench"):
        (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('owned')\n")
    monkeypatch.chdir(tmp_path)
    worker = start_serving("ctbench.engine.launchers.worker", str(tmp_path / "store"), str(tmp_path / "corpora"))
    assert worker.stdin is not None
    worker.stdin.close()
    worker.wait(timeout=300)
    assert worker.stdout is not None
    worker.stdout.close()
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
def test_workers_compute_beside_a_module_that_lies_in_the_current_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "json.py").write_text("raise SystemExit('owned')\n")
    (tmp_path / "helper.py").write_text("SHARE = 0.25\n")
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nimport helper\nfrom ctbench.method import Method, hyper\n'
        "class Mine(Method):\n    share: float = hyper(0.5)\n"
        "    def begin(self, stage):\n        stage.note(helped=helper.SHARE)\n"
    )
    write_stream(tmp_path, tokens="640", epochs="1", num_test="16", num_train="12", num_validation="0", seeds="[0]")
    (result,) = ctbench.run(method="./mine.py", stream="small.toml", workers=1, progress=False)
    assert [stage.notes["helped"] for stage in result.stages] == [0.25, 0.25]
