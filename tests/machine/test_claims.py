from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from ctbench.machine import claims
from ctbench.machine.claims import Owner, claimed, is_stale, read_owner

HOLD = """
import sys, time
from pathlib import Path
from ctbench.machine.claims import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
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


def write_claim(path, **changed):
    owner = Owner(host="elsewhere", process=1, started="1", token="t")
    path.write_text(json.dumps(asdict(owner) | changed))


def test_an_owner_on_another_host_is_dead_once_it_is_silent(tmp_path, monkeypatch):
    path = tmp_path / "node.claim"
    write_claim(path)
    assert not is_stale(path)
    os.utime(path, (time.time() - 2 * claims.SILENT_SECONDS,) * 2)
    assert is_stale(path)
    with claimed(path):
        assert read_owner(path).process == os.getpid()


def test_a_process_id_that_is_used_again_does_not_keep_a_claim(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        mine = read_owner(path)
    write_claim(path, host=mine.host, process=mine.process, started="another start")
    assert is_stale(path)


def test_a_claim_that_was_taken_over_stays_with_its_new_owner(tmp_path):
    path = tmp_path / "node.claim"
    with claimed(path):
        write_claim(path)
    assert read_owner(path).host == "elsewhere"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}'])
def test_an_unreadable_claim_is_respected_until_it_is_silent(tmp_path, content):
    path = tmp_path / "node.claim"
    path.write_text(content)
    assert not is_stale(path)
    os.utime(path, (time.time() - 2 * claims.SILENT_SECONDS,) * 2)
    assert is_stale(path)
