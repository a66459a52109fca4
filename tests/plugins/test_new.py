"""What `ctbench new` writes works as it is, and nothing is overwritten."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ctbench.data.sources import read_texts
from ctbench.data.tasks import check_task
from ctbench.engine.study import Study
from ctbench.errors import BadConfig
from ctbench.plugins.find import find_plugin, get_method, get_stream
from ctbench.plugins.new import new_method, new_package, new_stream, new_study
from ctbench.plugins.source import describe_method


def test_written_method_loads_under_its_name(tmp_path):
    (path,) = new_method("my_idea", tmp_path)
    assert path == tmp_path / "my_idea.py"
    assert type(get_method(str(path))).__name__ == "MyIdea"
    described = describe_method(find_plugin("method", str(path)))
    assert described.name == "my_idea"
    assert described.traits == {"stores_text": False, "needs_domain": False, "grows": False}
    assert all(field.help for field in described.fields)


def test_written_stream_is_valid_and_its_data_can_be_read(tmp_path):
    stream = get_stream(str(new_stream("corpus", tmp_path)[0]))
    assert stream.name == "corpus"
    assert stream.names == ("first", "second")
    for domain in stream.domains:
        assert len(list(read_texts(stream, domain.text, domain=domain.name))) == 300
        check_task(stream, domain)
    assert sum(1 for _ in read_texts(stream, stream.general, domain=None)) == 600


def test_written_study_is_valid_and_so_are_the_keys_that_it_leaves_out(tmp_path):
    (path,) = new_study("mine", tmp_path)
    assert len(Study(path).jobs) == 3
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = [line.removeprefix("# ") if re.match(r'# (\w+ = |\[|"pre)', line) else line for line in lines]
    path.write_text("\n".join(whole), encoding="utf-8")
    jobs = Study(path).jobs
    assert {job.method for job in jobs} == {"joint"}
    assert {(job.model, job.recipe, job.precision, job.control) for job in jobs} == {("tiny", "default", "fp32", True)}
    assert {job.set["pretrain.tokens"] for job in jobs} == {"500000.0", "1000000.0"}
    with pytest.raises(BadConfig, match="there already"):
        new_study("mine.toml", tmp_path)
    with pytest.raises(BadConfig, match="cannot be the name of a study"):
        new_study("../mine", tmp_path)


@pytest.mark.slow
def test_written_package_is_discovered_and_its_own_test_passes(tmp_path):
    """Put on the path together with the metadata that an installation makes of its pyproject.toml."""
    root = new_package("my_idea", tmp_path)[0].parent
    assert root.name == "ctbench-my-idea"
    make = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", make], cwd=root, check=True, capture_output=True, timeout=120)

    def run(*args, **environment):
        command = [sys.executable, "-m", *args]
        answer = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=240
        )
        return answer.returncode, answer.stdout + answer.stderr

    code, listed = run("ctbench", "ls", "methods", PYTHONPATH=str(root))
    assert code == 0, listed
    assert "my_idea" in listed
    assert "my_idea" not in run("ctbench", "ls", "methods")[1]
    code, tested = run("pytest", "-q", "-p", "no:cacheprovider", str(root), PYTHONPATH=str(root))
    assert code == 0, tested
    assert "1 passed" in tested


@pytest.mark.parametrize("write", [new_method, new_package, new_stream])
def test_nothing_is_overwritten(write, tmp_path):
    written = write("corpus", tmp_path)
    written[0].write_text("edited")
    with pytest.raises(BadConfig, match="is there already"):
        write("corpus", tmp_path)
    assert written[0].read_text() == "edited"


@pytest.mark.parametrize("write", [new_method, new_package, new_stream])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Mine", "lower-case letters"),
        ("2nd", "lower-case letters"),
        ("my-idea", "lower-case letters"),
        ("../mine", "lower-case letters"),
        ("", "lower-case letters"),
        ("class", "no word of Python"),
        ("replay", "there is a method 'replay' already"),
        ("domain", "there is a stream 'domain' already"),
    ],
)
def test_bad_or_taken_name_is_refused(write, name, words, tmp_path):
    with pytest.raises(BadConfig, match=words):
        write(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["random", "torch", "method", "traits"])
def test_file_that_would_hide_a_module_or_an_import_is_refused(name, tmp_path):
    with pytest.raises(BadConfig, match="Python finds already"):
        new_method(name, tmp_path)
    assert not list(tmp_path.iterdir())
