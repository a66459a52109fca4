from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from ctbench.machine import claims
from ctbench.machine.claims import Owner, claimed, is_stale, read_owner, remove_stale

HOLD = """
import sys, time
from pathlib import Path
from ctbench.machine.claims import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

KILL_AT_EVERY_CALL = """
import os, resource, signal, sys, time
from pathlib import Path
from ctbench.machine.claims import claimed, read_owner
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
path = Path(sys.argv[1])

def kill_at(call):
    if call == 0:  # at the first byte that is written
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    seen = []
    def hear(event, args):
        if event in CHANGES and str(path.parent) in str(args[0]):
            seen.append(event)
            if len(seen) == call:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hear)
    with claimed(path):
        pass
    os._exit(0)

for call in range(30):
    child = os.fork()
    if child == 0:
        kill_at(call)
    _, status = os.waitpid(child, 0)
    owner = read_owner(path)
    assert owner is None or owner.process == child, owner
    started = time.monotonic()
    with claimed(path):
        assert read_owner(path).process == os.getpid()
    print(call, "ended" if status == 0 else "killed", round(time.monotonic() - started, 1), path.exists())
    if status == 0:
        break
"""


def test_a_claim_names_its_owner_and_goes_when_the_block_ends(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        assert read_owner(path).process == os.getpid()
        assert not is_stale(path)
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_threads_holds_a_claim_at_a_time(tmp_path):
    path, inside, most = tmp_path / "node.claim", [0], [0]

    def work():
        with claimed(path):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_the_claim_of_a_killed_process_is_taken_over_and_waiting_is_reported(tmp_path):
    path = tmp_path / "node.claim"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    waited: list[Owner] = []

    def kill(owner):
        waited.append(owner)
        holder.kill()
        holder.communicate()

    with claimed(path, waiting=kill):
        assert read_owner(path).process == os.getpid()
    assert [owner.process for owner in waited] == [holder.pid]
    assert str(waited[0]).startswith(f"process {holder.pid} on ")


def test_a_process_killed_at_any_call_leaves_no_claim_without_owner_and_the_next_one_waits_for_nothing(tmp_path):
    command = [sys.executable, "-c", KILL_AT_EVERY_CALL, str(tmp_path / "node.claim")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[1] for line in told] == ["killed"] * (len(told) - 1) + ["ended"]
    assert len(told) > 5
    assert all(float(line.split()[2]) < 5 for line in told)
    assert {line.split()[3] for line in told} == {"False"}


def test_a_stale_claim_that_another_process_removes_in_the_same_moment_is_no_error(tmp_path, monkeypatch):
    path = tmp_path / "node.claim"
    path.mkdir()
    read = claims._read

    def read_and_lose(asked):
        found = read(asked)
        path.rmdir()
        monkeypatch.setattr(Path, "is_dir", lambda _path: True)  # whoever asked a moment ago was told so
        return found

    monkeypatch.setattr(claims, "_read", read_and_lose)
    claims.remove_stale(path)
    assert not path.exists()


SIX_ARE_KILLED = """
import os, random, signal, sys, time, traceback
from pathlib import Path
from ctbench.machine import claims
claims.POLL_SECONDS = 0.002
if "broken" in sys.argv:
    claims._create = lambda path, me: True
root = Path(sys.argv[1])
path, inside, done = root / "node.claim", root / "inside", root / "done"

def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

def work(seed):
    draw = random.Random(seed)
    while True:
        with claims.claimed(path):
            try:
                other = inside.read_text()
            except FileNotFoundError:
                other = ""
            if other and other != str(os.getpid()) and is_alive(other):
                (root / "two are inside").touch()
            inside.write_text(str(os.getpid()))
            time.sleep(draw.uniform(0, 0.004))
            inside.unlink(missing_ok=True)
            with done.open("a") as file:
                file.write("x")

def start(seed):
    child = os.fork()
    if child == 0:
        try:
            work(seed)
        finally:
            traceback.print_exc()
            os._exit(1)
    return child

draw = random.Random(0)
living = [start(number) for number in range(6)]
try:
    for number in range(60):
        time.sleep(draw.uniform(0, 0.03))
        victim = living.pop(draw.randrange(6))
        os.kill(victim, signal.SIGKILL)
        assert os.waitpid(victim, 0)[1] == signal.SIGKILL
        living.append(start(6 + number))
    count = done.stat().st_size
    while done.stat().st_size < count + 20:  # they get on
        time.sleep(0.01)
finally:
    for each in living:
        os.kill(each, signal.SIGKILL)
print((root / "two are inside").exists())
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes live")
@pytest.mark.parametrize(("more", "said"), [((), "False\n"), (("broken",), "True\n")])
def test_six_processes_that_are_killed_at_random_are_never_two_inside_and_get_on(tmp_path, more, said):
    command = [sys.executable, "-c", SIX_ARE_KILLED, str(tmp_path), *more]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (answer.stdout, answer.returncode) == (said, 0), answer.stderr


def write_claim(path, **changed):
    owner = Owner(host="elsewhere", process=1, started="1", token="t")
    path.mkdir(exist_ok=True)
    (path / owner.token).write_text(json.dumps(asdict(owner) | changed))
    return path / owner.token


def make_silent(path):
    os.utime(path, (time.time() - 2 * claims.SILENT_SECONDS,) * 2)


def test_an_owner_on_another_host_is_dead_once_it_is_silent(tmp_path):
    path = tmp_path / "node.claim"
    file = write_claim(path)
    assert not is_stale(path)
    make_silent(file)
    assert is_stale(path)
    with claimed(path):
        assert read_owner(path).process == os.getpid()


def test_a_process_id_that_is_used_again_does_not_keep_a_claim(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        mine = read_owner(path)
    write_claim(path, host=mine.host, process=mine.process, space=mine.space, started="another start")
    assert is_stale(path)


def test_an_owner_in_another_container_of_this_host_lives_as_long_as_it_gives_signs_of_life(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        mine = read_owner(path)
    file = write_claim(path, host=mine.host, process=2**22, space="pid:[1]", started="1")
    assert not is_stale(path)
    make_silent(file)
    assert is_stale(path)


def test_an_owner_whom_the_system_hides_lives_as_long_as_it_gives_signs_of_life(tmp_path, monkeypatch):
    path = tmp_path / "node.claim"
    with claimed(path):
        mine = read_owner(path)
    file = write_claim(path, host=mine.host, process=2**22, space=mine.space, started="1")
    assert is_stale(path)

    def refuse(_process, _number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_stale(path)
    make_silent(file)
    assert is_stale(path)


def test_what_an_interrupt_leaves_of_a_claim_is_not_waited_for(tmp_path, monkeypatch):
    path, remove = tmp_path / "node.claim", claims._remove

    def interrupt(*_):
        monkeypatch.setattr(claims, "_remove", remove)
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "_remove", interrupt)
    with pytest.raises(KeyboardInterrupt), claimed(path):
        pass
    assert read_owner(path).process == os.getpid()
    with claimed(path, waiting=pytest.fail):
        assert not is_stale(path)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_ahead_makes_no_living_owner_silent(tmp_path, monkeypatch):
    path, now = tmp_path / "node.claim", time.time
    file = write_claim(path)
    monkeypatch.setattr(time, "time", lambda: now() + 10 * claims.SILENT_SECONDS)
    assert not is_stale(path)
    os.utime(file, (now() - 2 * claims.SILENT_SECONDS,) * 2)
    assert is_stale(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_claim_that_was_taken_over_stays_with_its_new_owner(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        (path / read_owner(path).token).unlink()
        file = write_claim(path)
        make_silent(file)
        claims._beat(path / "mine", stop=OneBeat())
        assert is_stale(path)
    assert read_owner(path).host == "elsewhere"


class OneBeat:
    """An event that comes after one beat."""

    def __init__(self):
        self.waits = iter((False, True))

    def wait(self, _):
        return next(self.waits)


def test_the_claim_of_whoever_came_in_between_is_not_removed_with_the_stale_one(tmp_path, monkeypatch):
    path = tmp_path / "node.claim"
    make_silent(write_claim(path))
    delete = claims._delete

    def come_in_between(file):
        monkeypatch.setattr(claims, "_delete", delete)
        remove_stale(path)
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "mine").write_text(json.dumps(asdict(Owner(host="a", process=2, started="", token="mine"))))
        (tmp_path / "new").rename(path)
        delete(file)

    monkeypatch.setattr(claims, "_delete", come_in_between)
    remove_stale(path)
    assert read_owner(path).token == "mine"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"host": 1}', "[" * 100_000, '{"host": [], "process": 1, "started": "", "token": ""}']
)
@pytest.mark.parametrize("is_older", [False, True])
def test_an_unreadable_claim_is_respected_until_it_is_silent(tmp_path, content, is_older):
    path = tmp_path / "node.claim"
    file = path if is_older else write_claim(path)
    file.write_text(content)
    assert not is_stale(path)
    make_silent(file)
    assert is_stale(path)
    with claimed(path):
        assert read_owner(path).process == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_an_older_version_is_respected_until_its_owner_is_gone(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(tmp_path / "mine.claim"):
        mine = read_owner(tmp_path / "mine.claim")
        path.write_text(json.dumps(asdict(mine)))
        assert not is_stale(path)
        assert not claims._create(path, Owner(host="elsewhere", process=1, started="1", token="t"))
    path.write_text(json.dumps(asdict(mine) | {"started": "another start"}))
    with claimed(path):
        assert read_owner(path).process == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [None, ".DS_Store", ".nfs0001"])
def test_a_claim_with_no_owner_in_it_is_free(tmp_path, name):
    path = tmp_path / "node.claim"
    path.mkdir()
    if name is not None:
        (path / name).write_text("x")
    assert is_stale(path)
    assert read_owner(path) is None
    with claimed(path):
        assert read_owner(path).process == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_was_swept_while_it_was_made_is_made_again(tmp_path, monkeypatch):
    path, rename = tmp_path / "node.claim", type(tmp_path).rename

    def sweep(scratch, target):
        monkeypatch.setattr(type(tmp_path), "rename", rename)
        shutil.rmtree(scratch)
        return rename(scratch, target)

    monkeypatch.setattr(type(tmp_path), "rename", sweep)
    with claimed(path):
        assert read_owner(path).process == os.getpid()
