"""Look whether this machine can compute: `python -m ctbench.engine.ray.check` reads what it is told, and prints a reply.

It is a process of its own, because the worker that follows is one: Ray's own process may find other modules than that.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

from ctbench.engine.launchers.agreement import check_nodes, check_versions
from ctbench.engine.node import nodes_of
from ctbench.engine.store import Store
from ctbench.errors import BadConfig, CTBenchError, RunFailed


def main() -> None:
    """Print "ready", or "refused" with the reason, as JSON."""
    reply: dict[str, Any] = {"what": "ready"}
    try:
        check(json.loads(sys.stdin.read()))
    except CTBenchError as error:
        code = 1 if isinstance(error, RunFailed) else 2
        reply = {"what": "refused", "code": code, "reason": f"{error} (on {socket.gethostname()})"}
    sys.stdout.write(json.dumps(reply) + "\n")


def check(setup: dict[str, Any]) -> None:
    """Refuse another version than the command's, a store that is not its own or full, and plug-ins that are missing or differ.

    Args:
        setup: from `ctbench.engine.ray.launch`.

    Raises:
        CTBenchError: what is missing or differs.
    """
    token = Path(setup["token"])
    try:
        text = token.read_text(encoding="utf-8")
    except OSError:
        text = ""
    if text != token.name:
        raise BadConfig(
            f"the machine {socket.gethostname()} does not see '{token.parent}': set CTBENCH_HOME to a folder that all "
            "machines of the cluster see under the same path"
        )
    check_versions(setup["versions"])
    nodes = nodes_of(setup["nodes"])
    check_nodes([nodes[key] for key in setup["keys"]], setup["keys"])
    Store(Path(setup["args"][0])).require_room()


if __name__ == "__main__":
    main()
