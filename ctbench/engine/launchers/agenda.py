"""What is to compute, what is ready, and what a failed node takes along. Nothing here computes."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ctbench.engine.failures import Failure, NodesFailed, Problem, refusal
from ctbench.engine.launchers.events import Event, Listener
from ctbench.engine.node import Node, in_order
from ctbench.engine.store import Store

MAX_LOST: Final = 3
"""Times that a node is given to a worker of another machine, if they are lost."""
MAX_PASSED: Final = 64
"""Ready nodes that are looked at for one that no other process computes."""
Damage = Callable[[Node, str], None]
"""Called with a damaged node and what is wrong with it."""


def missing(nodes: Iterable[Node], store: Store, *, damaged: Damage | None = None) -> list[Node]:
    """Return the nodes to compute, parents first: those that the store lacks, with the ancestors that they need.

    A damaged node counts as missing. The records of all nodes are compared with their checksums, and every file of the
    ancestors that are read.

    Args:
        nodes: those whose records are wanted.
        store: what is there already; it is not changed.
        damaged: called with every node that is there and damaged.
    """
    needed: dict[str, Node] = {}
    intact: dict[tuple[str, bool], bool] = {}

    def is_intact(node: Node, *, is_read: bool) -> bool:
        if (node.key, is_read) not in intact:
            reason = store.damage(node.key, thorough=is_read)
            if reason is not None and damaged is not None and intact.get((node.key, not is_read), True):
                damaged(node, reason)
            intact[node.key, is_read] = reason is None and store.has(node.key)
        return intact[node.key, is_read]

    def visit(node: Node, *, is_read: bool) -> None:
        if node.key in needed or is_intact(node, is_read=is_read):
            return
        for parent in [*bases.get(node.lookup.base, ()), *node.parents]:  # every LM is read beside its base
            visit(parent, is_read=True)
        needed[node.key] = node

    nodes = list(nodes)
    bases: dict[str | None, list[Node]] = {each.key: [each] for each in in_order(nodes) if each.kind == "base"}
    for node in nodes:
        visit(node, is_read=False)
    return list(needed.values())


class Agenda:
    """The nodes of a launch: the longest chain of waiting nodes goes first; a failed node takes along what needs it.

    A node whose memory did not suffice, or whose worker was killed, is tried once more, alone, when the others are done. One
    whose worker was lost with its machine is tried again at once.

    Args:
        todo: from `missing`: each behind the ancestors that the store lacks.
        listen: told about starts, failures and ends.
        fail_fast: whether the first failure ends the launch.
        is_claimed: tells of a key whether another process computes its node; such a node goes after others that are ready,
            so that two runs on one store share their common nodes instead of waiting for each other at every one.
    """

    def __init__(
        self,
        todo: Sequence[Node],
        *,
        listen: Listener,
        fail_fast: bool = False,
        is_claimed: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        self.failures: list[Failure] = []
        self.listen = listen
        self._fail_fast = fail_fast
        self._is_claimed = is_claimed
        self._left = {node.key: node for node in todo}
        read = {node.key: {node.lookup.base, *(parent.key for parent in node.parents)} for node in todo}
        self._waiting = {key: {each for each in keys if each in self._left} - {key} for key, keys in read.items()}
        self._children: dict[str, list[str]] = {key: [] for key in self._left}
        for key, parents in self._waiting.items():
            for parent in parents:
                self._children[parent].append(key)
        self._height = _heights(todo)
        self._rank = {node.key: index for index, node in enumerate(todo)}
        self._ready: list[tuple[int, int, str]] = []
        self._again: deque[Node] = deque()
        self._tried: dict[str, Problem] = {}
        self._lost: Counter[str] = Counter()
        self._alone: str | None = None
        for key, parents in self._waiting.items():
            if not parents:
                self._push(key)

    @property
    def num_left(self) -> int:
        """Number of nodes that are neither done nor given up."""
        return len(self._left)

    def __contains__(self, key: str) -> bool:
        """Return whether the node of a key is neither done nor given up."""
        return key in self._left

    def left(self) -> list[Node]:
        """Return the nodes that are neither done nor given up."""
        return list(self._left.values())

    def waits(self, node: Node) -> bool:
        """Return whether a node that is left waits for another one."""
        return any(key in self._left for key in self._waiting[node.key])

    def take(self, *, num_busy: int) -> Node | None:
        """Return the next node to compute; None if none is ready.

        Args:
            num_busy: number of nodes that are being computed.
        """
        if self._alone is not None:
            return None
        if self._ready:
            node = self._left[self._pop()]
        elif self._again and not num_busy:
            node = self._again.popleft()
            self._alone = node.key
        else:
            return None
        self.listen(Event(what="start", node=node))
        return node

    def finish(self, node: Node) -> None:
        """Take note that a node is done."""
        self._settle(node)
        self.listen(Event(what="done", node=node))
        for key in self._children[node.key]:
            self._waiting[key].discard(node.key)
            if not self._waiting[key] and key in self._left:
                self._push(key)

    def fail(self, node: Node, problem: Problem) -> None:
        """Take note of a problem with a node: it is tried again, or given up with all that need it.

        Raises:
            CTBenchError: the problem ends the whole launch, or every failure does.
        """
        if error := refusal(node, problem):
            raise error
        if self._tries_again(node, problem):
            return
        self._settle(node)
        lost = [each for key, each in self._left.items() if self._needs(key, node.key)]
        for each in lost:
            del self._left[each.key]
        reason = problem.reason
        if problem.kind == "lost":
            reason += f" ({self._lost[node.key]} workers were lost at it)"
        elif node.key in self._tried:
            reason += " (tried twice, the second time alone)"
        failure = Failure(node=node, reason=reason, trace=problem.trace, dependents=tuple(lost))
        self.failures.append(failure)
        self.listen(Event(what="failed", node=node, reason=reason, dependents=failure.dependents))
        if self._fail_fast:
            raise NodesFailed(self.failures, went_on=False)

    def _tries_again(self, node: Node, problem: Problem) -> bool:
        """Return whether a node is tried again, and take note of that."""
        if problem.kind == "lost":
            self._lost[node.key] += 1
            if self._lost[node.key] >= MAX_LOST:
                return False
            self._push(node.key)
            when = "at once"
        elif problem.is_retried and node.key not in self._tried:
            self._tried[node.key] = problem
            self._again.append(node)
            when = "when the others are done"
        else:
            return False
        if self._alone == node.key:
            self._alone = None
        self.listen(Event(what="retrying", node=node, reason=f"{problem.reason}; tried again {when}"))
        return True

    def _settle(self, node: Node) -> None:
        del self._left[node.key]
        if self._alone == node.key:
            self._alone = None

    def _push(self, key: str) -> None:
        heapq.heappush(self._ready, (-self._height[key], self._rank[key], key))

    def _pop(self) -> str:
        """Take the first ready key off that no other process has claimed, or the very first if all that were looked at are."""
        passed: list[tuple[int, int, str]] = []
        while self._ready and len(passed) < MAX_PASSED:
            first = heapq.heappop(self._ready)
            if not self._is_claimed(first[2]):
                break
            passed.append(first)
        else:
            first = passed.pop(0)
        for each in passed:
            heapq.heappush(self._ready, each)
        return first[2]

    def _needs(self, key: str, other: str) -> bool:
        """Return whether a node waits for another one; an ancestor that the store has needs nothing."""
        return any(parent == other or self._needs(parent, other) for parent in self._waiting[key])


def _heights(todo: Sequence[Node]) -> dict[str, int]:
    height = {node.key: 0 for node in todo}
    for node in reversed([node for node in in_order(todo) if node.key in height]):
        for parent in node.parents:
            if parent.key in height:
                height[parent.key] = max(height[parent.key], height[node.key] + 1)
    return height
