"""Connecting to a Ray cluster, and computing an agenda with workers on its machines."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.agreement import versions
from ctbench.engine.launchers.events import MAX_WORKERS
from ctbench.engine.launchers.pool import Pool
from ctbench.engine.launchers.process import Replies
from ctbench.engine.node import Node, in_order
from ctbench.engine.ray.actor import WorkerActor
from ctbench.engine.ray.options import AUTO, LOCAL, RayOptions
from ctbench.engine.ray.worker import RayWorker
from ctbench.engine.store import OTHER_HOME
from ctbench.errors import BadConfig, RunFailed, first_line, unwritable
from ctbench.machine.files import write_whole

PASSED: Final = ("CTBENCH_", "HF_")
"""Beginnings of the names of environment variables that workers get from the command."""
NAMESPACE: Final = "ctbench"
"""Ray's namespace of a connection that the launcher has made, and ends."""
CONNECT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 20.0
"""Time without any worker after which a line says so."""


def require_ray(asked: RayOptions) -> None:
    """Connect to the cluster, unless this process is connected to one.

    Raises:
        BadConfig: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        line = "--launcher ray needs ray, which is not installed: pip install 'ctbench[ray]'"
        raise BadConfig(line) from error
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere without --online
    if asked.address not in (AUTO, LOCAL):
        _check_port(asked.address)
    more = {"include_dashboard": False} if asked.address == LOCAL else {}
    with _own_signals():
        try:
            ray.init(address=asked.address, namespace=NAMESPACE, log_to_driver=False, logging_level="error", **more)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            hint = "; if it asks for a token: export RAY_AUTH_MODE=token"
            if asked.address in (AUTO, LOCAL):
                hint = "; `ray start --head` starts one, --address local does it for one call"
            raise BadConfig(f"no Ray cluster answers at '{asked.address}': {first_line(error)}{hint}") from error


def compute_on_ray(
    agenda: Agenda,
    args: list[str],
    *,
    options: RayOptions,
    workers: int | None,
    say: Callable[[str], None],
) -> None:
    """Compute an agenda with workers of the cluster.

    Args:
        agenda: what is to compute.
        args: arguments of the workers.
        options: what each worker asks for.
        workers: number of workers; None for as many as have room now.
        say: called with a line about the cluster.

    Raises:
        BadConfig: no worker can compute where it runs.
        CTBenchError: a problem ends the whole launch.
    """
    import ray

    require_ray(options)
    todo = agenda.left()
    room = sum(options.slots(machine["Resources"]) for machine in ray.nodes() if machine["Alive"])
    count = min(max(1, room if workers is None else workers), len(todo), MAX_WORKERS)
    say(f"{count} worker{'s' * (count > 1)} on a Ray cluster that has room for {room}, {_share(options)} each")
    with _token(Path(args[0]).parent) as token:
        actor = ray.remote(WorkerActor).options(**options.resources(), max_concurrency=4, max_restarts=0)
        make = functools.partial(actor.remote, _setup(todo, args, token, options))
        pool = Pool(agenda, functools.partial(_start, make), count=count)
        slow = threading.Timer(PATIENCE_SECONDS, _say_slow, (pool, say, options))
        slow.daemon = True
        slow.start()
        try:
            pool.run()
        finally:
            slow.cancel()
            if ray.get_runtime_context().namespace == NAMESPACE:
                with _own_signals():
                    ray.shutdown()


def _start(make: Callable[[], Any], index: int, replies: Replies) -> RayWorker:
    return RayWorker(make, index=index, replies=replies)


def _setup(todo: Sequence[Node], args: list[str], token: Path, options: RayOptions) -> str:
    """Return what a worker's machine is told and looks at before it computes, as JSON."""
    samples = {(node.kind, node.lookup.stream, node.lookup.method): node for node in reversed(todo)}.values()
    return json.dumps(
        {
            "token": str(token),
            "versions": versions(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith(PASSED)},
            "cwd": str(Path.cwd()),
            "nodes": [node.spec().to_json() for node in in_order(samples)],
            "keys": [node.key for node in samples],
            "args": args,
            "uses_gpu": options.gpus > 0,
        }
    )


@contextlib.contextmanager
def _token(home: Path) -> Iterator[Path]:
    """Yield a file that holds its own name, by which other machines know the folder."""
    path = home / f".ray-{uuid.uuid4().hex}"
    try:
        write_whole(path, path.name)
    except OSError as error:
        raise RunFailed(unwritable(f"the folder '{home}'", error, OTHER_HOME)) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _say_slow(pool: Pool, say: Callable[[str], None], options: RayOptions) -> None:
    import ray

    if pool.num_ready:
        return
    found = ray.cluster_resources()
    has = f"{found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} GPUs, some perhaps taken"
    say(f"no worker has started yet: each asks for {_share(options)}, and the cluster has {has}; still waiting")


def _share(options: RayOptions) -> str:
    gpus = f"{options.gpus:g} GPU{'s' * (options.gpus > 1)}" if options.gpus else "no GPU"
    return f"{options.cpus:g} core{'s' * (options.cpus != 1)} and {gpus}"


def _check_port(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadConfig(f"no Ray cluster answers at '{address}': {first_line(error)}") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, found in before.items():
            signal.signal(each, signal.SIG_DFL if found is None else found)
