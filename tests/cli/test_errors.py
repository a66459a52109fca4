"""A user's mistake is one line on standard error, exit code 2, and nothing written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_results import write_fakes
from small_streams import write_method, write_stream

from ctbench import get_method
from ctbench.cli import main
from ctbench.errors import UnknownName

TEXTS = "\n".join(json.dumps({"text": f"word{i % 7} word{i % 5} word{i % 3}"}) for i in range(300))
EXAMPLES = "\n".join(json.dumps({"text": f"word{i}", "label": "ab"[i % 2]}) for i in range(8))
FILES_STREAM = """
kind = "domain"
summary = "files"
general = { source = "files", path = "general.jsonl" }
[[domains]]
name = "one"
text = { source = "files", path = "text.jsonl" }
task = { source = "files", train = "train.jsonl", test = "test.jsonl" }
[base]
tokens = 64
batch = 1
length = 16
[pretrain]
tokens = 64
batch = 1
length = 16
"""


@pytest.fixture
def ctbench(monkeypatch, capfd):
    """Return a function that calls ctbench in a folder, in this process: a new one imports torch each time."""

    def call(*args, cwd, home="home"):
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("CTBENCH_HOME", home)
        monkeypatch.setenv("NO_COLOR", "1")
        capfd.readouterr()
        code = main(list(args))
        stdout, stderr = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr)

    return call


@pytest.fixture
def refused(ctbench):
    """Return a function that calls ctbench, which must write one line and nothing else, and returns the line."""

    def call(*args, cwd, **kwargs):
        before = sorted(cwd.rglob("*"))
        answer = ctbench(*args, cwd=cwd, **kwargs)
        assert answer.returncode == 2, answer.stderr
        assert answer.stdout == ""
        lines = answer.stderr.strip().splitlines()
        assert len(lines) == 1, answer.stderr
        written = {path.relative_to(cwd).parts[0] for path in set(cwd.rglob("*")) - set(before)}
        assert written <= {"home"}
        assert not list((cwd / "home/store").rglob("record.json"))
        return lines[0]

    return call


def test_a_process_refuses_as_a_call_does(tmp_path, refused):
    args = ["run", "--method", "naiv", "--stream", "domain"]
    environment = {**os.environ, "CTBENCH_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "ctbench", *args]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.strip() == refused(*args, cwd=tmp_path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "--method", "naiv", "--stream", "domain"], "did you mean 'naive'"),
        (["run", "--method", "naive", "--stream", "domian"], "did you mean 'domain'"),
        (["run", "--method", "naive"], "--stream"),
        (["bench", "--shape", "tinny"], "did you mean 'tiny'"),
        (["bench", "--method", "repaly"], "did you mean 'replay'"),
        (["bench", "--what", "speed"], "no kind of bench 'speed'"),
        (["run", "--method", "naive", "--stream", "domain", "--sed", "0"], "--sed"),
        (["rum"], "did you mean 'run'"),
        (["run", "--method", "replay", "--stream", "domain", "--set", "method.replay_fraction=2"], "from 0.0 to 1.0"),
        (["run", "--method", "replay", "--stream", "domain", "--set", "method.replay=2"], "replay_fraction"),
        (["run", "--method", "naive", "--stream", "domain", "--set", "pretrain.lr=fast"], "pretrain.lr"),
        (["run", "--method", "naive", "--stream", "domain", "--set", "pretrain.tokns=5"], "tokens"),
        (["run", "--method", "naive", "--stream", "domain", "--set", "language.noise=1.5"], "language.noise"),
        (["run", "--method", "naive", "--stream", "domain", "--seed", "two"], "0..2"),
        (["run", "--method", "naive", "--stream", "domain", "--workers", "many"], "auto"),
        (["run", "--method", "naive", "--stream", "domain", "--recipe", "big"], "default"),
        (["run", "--method", "naive", "--stream", "domain", "--precision", "fp8"], "bf16"),
        (["run", "--method", "naive", "--stream", "temporal", "--order", "1"], "temporal"),
        (["run", "--method", "naive", "--stream", "domain", "--model", "no/such-model"], "no model 'no/such-model'"),
        (["run", "--method", "naive", "--stream", "domain", "--seed", "0..99999999999999999999"], "at most 1000"),
        (["bench", "--seconds", "nan"], "some seconds"),
        (["bench", "--threads", "9999"], "threads is 9999"),
        (["bench", "--what", ""], "a name is empty"),
        (["bench", "--quick"], "--scaling"),
        (["ls", "method"], "did you mean 'methods'"),
        (["show", "abcdef"], "no result 'abcdef'"),
        (["compare"], "no results"),
        (["plot", "abc", "-o", "x.gif"], ".png"),
        (["report", "-o", "."], "is a folder"),
        (["report", "-o", ""], "is a folder"),
        (["report", "-o", "/"], "is a folder"),
    ],
)
def test_wrong_call_is_one_line(args, words, tmp_path, refused):
    assert words in refused(*args, cwd=tmp_path)


@pytest.mark.parametrize("path", ["x" * 300, "a/" * 3000 + "b", "~no-such-user/x"])
@pytest.mark.parametrize(
    "args",
    [
        ["plan", "--method", "@.py", "--stream", "domain"],
        ["plan", "--method", "naive", "--stream", "@.toml"],
        ["plan", "--method", "naive", "--stream", "domain", "--model", "@"],
        ["plan", "--method", "naive", "--stream", "domain", "--results", "@"],
        ["plan", "--method", "naive", "--stream", "domain", "--log", "@"],
        ["plan", "@.toml"],
        ["show", "@"],
        ["compare", "--results", "@"],
        ["report", "-o", "@.html"],
        ["plot", "-o", "@.png"],
        ["export", "@", "-o", "out"],
        ["verify", "@"],
        ["check", "domain", "--model", "@"],
        ["plan", "--method", "@", "--stream", "domain"],
        ["plan", "--method", "naive", "--stream", "@"],
        ["check", "@"],
        ["prepare", "topics", "@"],
        ["prepare", "@", "out"],
        ["bench", "-o", "@"],
    ],
    ids=" ".join,
)
def test_a_path_that_can_lead_nowhere_is_one_line(args, path, tmp_path, refused):
    assert refused(*(word.replace("@", path) for word in args), cwd=tmp_path)


@pytest.mark.parametrize("args", [["store"], ["run", "--method", "naive", "--stream", "domain"], ["check", "domain"]])
def test_a_store_that_can_lie_nowhere_is_one_line(args, tmp_path, refused):
    assert "there is no user whose home this starts in" in refused(*args, cwd=tmp_path, home="~no-such-user/x")


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("log", ["folder", "file/below"])
def test_a_log_that_cannot_be_written_is_one_line(command, log, tmp_path, refused):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    args = [command, "--method", "naive", "--stream", "domain", "--log", log]
    assert f"the log '{log}' cannot be written" in refused(*args, cwd=tmp_path)


def test_a_name_with_a_line_break_is_one_line(tmp_path, refused):
    assert "no method 'a b'" in refused("plan", "--method", "a\nb", "--stream", "domain", cwd=tmp_path)
    with pytest.raises(UnknownName) as error:
        raise UnknownName("method", "a\nb\x1b[31m", ["naive"])
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("text.jsonl", None, "text.jsonl"),
        ("text.jsonl", "", "text.jsonl"),
        ("text.jsonl", '{"text": "only one"}\n', "text of domain one is a single document"),
        ("text.jsonl", b"\xff\xfe\x00", "text.jsonl"),
        ("text.jsonl", '{"text": "a"}\n{"txt": "a"}\n', "text.jsonl:2"),
        ("train.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n', "train.jsonl:2"),
        ("test.jsonl", '{"text": "a", "label": "new"}\n', "label 'new'"),
        ("small.toml", "kind = ", "small.toml"),
        ("small.toml", FILES_STREAM.replace("summary", "sumary"), "summary"),
        ("small.toml", FILES_STREAM.replace('kind = "domain"\n', ""), "kind"),
        ("small.toml", FILES_STREAM.replace('general = { source = "files", path = "general.jsonl" }', ""), "general"),
    ],
)
def test_bad_file_is_one_line_that_names_it(file, content, words, tmp_path, refused):
    contents = {
        "small.toml": FILES_STREAM,
        "general.jsonl": TEXTS,
        "text.jsonl": TEXTS,
        "train.jsonl": EXAMPLES,
        "test.jsonl": EXAMPLES,
        file: content,
    }
    for name, text in contents.items():
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in refused("run", "--method", "naive", "--stream", "small.toml", cwd=tmp_path)


@pytest.mark.parametrize("file", ["results", "results/domain", "results/domain/tiny/naive"])
def test_results_folder_that_cannot_be_written(file, tmp_path, refused):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("a file")
    assert "is not a folder" in refused("run", "--method", "naive", "--stream", "domain", cwd=tmp_path)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("size: int", "hyper-parameter size of Mine has no default; expected a number, true or false, or a text"),
        ("layers: tuple = hyper((1, 2))", "hyper-parameter layers of Mine has the default (1, 2)"),
        ("def plan(self, stream): return None", "plan of method 'mine' must return a Plan; it returned a NoneType"),
        ("def plan(self, stream): return {}['x']", "plan of method 'mine' failed: KeyError: 'x'"),
    ],
)
def test_method_that_cannot_be_used_is_one_line(body, words, tmp_path, refused):
    head = "from ctbench import Method, hyper\nclass Mine(Method):\n"
    (tmp_path / "mine.py").write_text(f"{head}    {body}\n")
    assert words in refused("run", "--method", "mine.py", "--stream", "domain", cwd=tmp_path)


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise ValueError('x\\ny')", "def (:"])
def test_method_file_that_cannot_be_imported_is_one_line(code, tmp_path, refused):
    head = "from ctbench import Method\nclass Mine(Method):\n    paper = ''\n"
    (tmp_path / "mine.py").write_text(f"{head}{code}\n")
    assert "method 'mine' cannot be" in refused("run", "--method", "mine.py", "--stream", "domain", cwd=tmp_path)


def test_checkpoint_whose_configuration_is_a_list_is_one_line(tmp_path, refused):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("[]")
    args = ["run", "--method", "naive", "--stream", "domain", "--model", "model"]
    assert "no JSON object" in refused(*args, cwd=tmp_path)


def test_data_folder_that_is_a_file_is_one_line(tmp_path, monkeypatch, refused):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CTBENCH_DATA", str(tmp_path / "file"))
    (tmp_path / "originals").mkdir()
    assert "cannot be written (Not a directory)" in refused("prepare", "tweet", "originals", cwd=tmp_path)


def shell(line, cwd):
    environment = {**os.environ, "CTBENCH_HOME": str(cwd / "home"), "NO_COLOR": "1"}
    call = f'set -o pipefail; ctbench() {{ {sys.executable} -m ctbench "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", call], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    answer = shell("ctbench ls methods > /dev/full", tmp_path)
    assert answer.returncode == 1
    assert answer.stderr == "ctbench: standard output: No space left on device\n"


@pytest.mark.parametrize("line", ["ls methods", "show {key}", "compare --all"])
def test_a_closed_pipe_is_no_error(line, tmp_path):
    write_fakes(tmp_path / "results", methods=("naive",), seeds=1)
    (path,) = (tmp_path / "results").rglob("*.json")
    answer = shell(f"ctbench {line.format(key=path.stem)} | true", tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_interrupt_prints_one_line_without_the_traceback_of_a_worker(tmp_path):
    write_stream(tmp_path, tokens="2_000_000")
    args = [sys.executable, "-m", "ctbench", "run", "-m", "naive", "-s", "small.toml", "--workers", "1"]
    environment = {**os.environ, "CTBENCH_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    with subprocess.Popen(
        args,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # whatever starts the tests in the background may ignore interrupts, which is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        assert "to compute" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read().splitlines()
    assert process.returncode == 130
    assert rest[-1] == "ctbench: interrupted; run the same command to resume"
    assert not any("Traceback" in line for line in rest)


@pytest.mark.parametrize(("command", "resumable"), [("run", True), ("tune", True), ("bench", False), ("report", False)])
def test_only_resumable_commands_say_so_when_interrupted(command, resumable, monkeypatch, capsys):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.main.get_command", interrupt)
    assert main([command]) == 130
    assert ("run the same command to resume" in capsys.readouterr().err) == resumable


def test_help_and_lists_do_not_import_torch(tmp_path):
    for args in (["--help"], ["ls", "methods"], ["ls", "streams"], ["ls", "methods", "replay"]):
        code = f"import sys; from ctbench.cli import main; main({args!r}); sys.exit('torch' in sys.modules)"
        answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, (args, answer.stderr)
        assert answer.stdout
    control = subprocess.run([sys.executable, "-c", "import sys, ctbench.stage; sys.exit('torch' in sys.modules)"])
    assert control.returncode == 1


def test_run_prints_one_json_document_and_show_prints_the_file(tmp_path, ctbench):
    write_stream(tmp_path)
    args = ["--method", "naive", "--stream", "small.toml", "--workers", "0"]
    answer = ctbench("run", *args, "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert {"matrix", "lm_loss", "metrics"} <= set(record)
    shown = ctbench("show", record["key"][:10], "--json", cwd=tmp_path)
    file = next((tmp_path / "results").rglob("*.json"))
    assert json.loads(shown.stdout) == json.loads(file.read_text()) == record
    for line in ("ls runs", "compare --all", f"show {record['key'][:8]}", f"plot {record['key'][:8]} -o x.svg"):
        answer = ctbench(*line.split(), cwd=tmp_path)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip()
    boards = json.loads(ctbench("compare", "--all", "--json", cwd=tmp_path).stdout)
    assert boards == json.loads(ctbench("compare", "--all", "--format", "json", cwd=tmp_path).stdout)
    assert "naive" in json.dumps(boards)
    planned = json.loads(ctbench("plan", *args[:4], "--json", cwd=tmp_path).stdout)
    assert all(row["missing"] == 0 for row in planned)


WHAT_NEWCOMERS_TRIED = [
    (["plan", "-m", "naive", "-s", "domain", "--model", "tiny-casual"], "did you mean 'tiny-causal'"),
    (["plan", "-m", "naive", "-s", "temporal", "--order", "1"], "--reorder-periods"),
    (
        ["plan", "-m", "naive", "-s", "domain", "--set", "pretrain.tokens=1e300"],
        "must be at most 1,000,000,000,000,000",
    ),
    (["plan", "-m", "naive", "-s", "domain", "--set", f"pretrain.tokens={'9' * 400}"], "must be at most"),
    (["plan", "-m", "naive", "-s", "domain", "--set", "language.num_held_out=999999999999"], "less than or equal to"),
    (
        ["plan", "-m", "naive", "-s", "domain", "--set", "pretrain.min_lr=0.5"],
        "--set pretrain.min_lr=0.5: pretrain: min_lr",
    ),
    (
        ["plan", "-m", "naive", "-s", "domain", "--set", "language.sharing=0.9", "--set", "language.polysemy=0.9"],
        "--set language.sharing=0.9 and --set language.polysemy=0.9: language: sharing",
    ),
    (["compare", "--method", ""], "a name is empty"),
    (["compare", "--view", "transfer", "--metric", "F_Acc"], "--metric, --columns and --sort are of the leaderboard"),
    (["plot", "--kind", "matrix", "--cost", "flops"], "are of the picture --kind cost"),
    (["store", "prune", "--method", "foo"], "no method 'foo'"),
    (["plan", "-m", "./folder.py", "-s", "domain"], "is a folder"),
    (["check", "mine"], "did you mean 'mine.py'"),
]


@pytest.mark.parametrize(
    ("args", "said"), WHAT_NEWCOMERS_TRIED, ids=[" ".join(args)[:60] for args, _ in WHAT_NEWCOMERS_TRIED]
)
def test_what_newcomers_tried_is_answered_with_what_they_meant(args, said, refused, tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "mine.py").write_text('"""Mine."""\n')
    assert said in refused(*args, cwd=tmp_path)


METHODS_THAT_CANNOT_RUN = {
    "def build(self, backbone, stream):\n    backbone.requires_grad_(False)": "build of method 'mine' returns a NoneType",
    "def build(self, backbone, stream):\n    raise SystemExit(0)": "failed: SystemExit: 0 (mine.py, line",
    "def loss(self, stage):\n    return {}": "loss of method 'mine' (mine.py) must be a function of self, stage",
    "loss = 3": "loss of method 'mine' (mine.py) is 3; expected a function",
    "def los(self, stage, batch):\n    return {}": "has 'los', which ctbench does not know; did you mean 'loss'?",
    "def on_backward(self, stage):\n    pass\n\ndef afterstep(self, stage):\n    pass": "did you mean 'after_step'?",
    "needs_part = True": "did you mean 'needs_parts'?",
}


@pytest.mark.parametrize("body", METHODS_THAT_CANNOT_RUN)
def test_a_method_that_cannot_run_is_refused_before_anything_is_computed(body, refused, tmp_path):
    write_method(tmp_path, body)
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    assert METHODS_THAT_CANNOT_RUN[body] in refused("plan", "-m", "./mine.py", "-s", str(stream), cwd=tmp_path)


def test_helpers_of_a_method_may_have_names_like_those_of_hooks_that_it_has(tmp_path):
    path = write_method(tmp_path, "def losses(self):\n    pass\n\ndef loss(self, stage, batch):\n    return {}")
    assert get_method(str(path)).losses() is None
