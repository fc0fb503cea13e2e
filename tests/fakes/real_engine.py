"""The engine of this tree in the place of a small release's, with a fault where its version has one.

A small release calls `run` for what its scripted workers cannot do: ``serve`` and ``replay``.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from engine import _version
from engine.cli.main import main
from engine.config.tables import NodeConfig
from engine.intake.admission import Admission
from engine.intake.fast_lane import ClientConnection
from engine.intake.replies import Reply
from engine.nodes import drivers
from engine.saver.thread import SaverThread
from engine.tasks.words import Operation, Outcome

EVERY = 100


def run(version: str, fault: str) -> int:
    """Be the command ``purgeline`` of a version."""
    _version.__version__ = version
    if fault and sys.argv[1] == "serve":
        FAULTS[fault]()
    return main()


def _answers_500() -> None:
    """One task in a hundred is answered 500."""
    submit, count = Admission.submit, 0

    def faulty(
        self: Admission, body: bytes, client: Any, answer: Callable[[Reply], None], **more: Any
    ) -> None:
        nonlocal count
        count += 1
        if count % EVERY == 0:
            answer(Reply(500, b'{"detail":"made so"}', "application/problem+json"))
        else:
            submit(self, body, client, answer, **more)

    Admission.submit = faulty  # type: ignore[method-assign]


def _is_slow() -> None:
    """Reading requests, and writing tasks, takes twice as long."""
    ClientConnection.data_received = _twice(ClientConnection.data_received)  # type: ignore[method-assign]
    SaverThread._commit = _twice(SaverThread._commit)  # type: ignore[method-assign]


def _twice(work: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*given: Any) -> Any:
        began = time.perf_counter()
        done = work(*given)
        until = 2 * time.perf_counter() - began
        while time.perf_counter() < until:
            pass
        return done

    return slow


def _fails_at_nginx() -> None:
    """No purge counts at an nginx."""
    read = drivers.read

    def faulty(node: NodeConfig, operation: Operation, status: int, body_bytes: int) -> Outcome:
        return Outcome.FAILED if node.driver == "nginx" else read(node, operation, status, body_bytes)

    drivers.read = faulty


def _does_not_start() -> None:
    raise SystemExit("purgeline: made so: it does not start")


FAULTS: dict[str, Callable[[], None]] = {
    "500": _answers_500,
    "slow": _is_slow,
    "results": _fails_at_nginx,
    "start": _does_not_start,
}
