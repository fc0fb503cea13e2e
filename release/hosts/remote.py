"""Runs operations of the agent on hosts and returns one outcome per host.

A `Fleet` never raises for part of the set: a host that is down, refuses, hangs, is cut off in mid-step or
answers nonsense has an `Outcome` that says so, in bounded time. It raises only when the answers are not
those of the hosts that were asked, which would be a defect here. Which commands go where is decided by the
callers; how one host is reached is `release.hosts.link` and `release.hosts.ssh`.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import msgspec

from release.errors import HostError, ReleaseError
from release.hosts.link import SLACK_S, Link, LocalLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from release.inventory import Host
    from release.settings import Settings

AGENT: Final = Path(__file__).resolve().parents[1] / "agent"
HUNG_SLACK_S: Final = 30.0  #: past every limit of its own, a thread that is still busy is given up


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one operation did on one host."""

    host: str
    op: str
    ok: bool
    answer: dict[str, Any] = {}  #: the last line that the agent wrote; empty when there was none
    kind: str = ""  #: of the failure, as the agent or `release.hosts.link` names it
    reason: str = ""  #: of the failure, a sentence
    log: list[str] = []  #: last lines of a worker, or of standard error
    duration_s: float = 0.0

    @property
    def is_answered(self) -> bool:
        """Whether the agent answered, be it with a refusal."""
        return self.ok or bool(self.answer)


class OnEvent(Protocol):
    """Takes progress; called from the hosts' threads."""

    def __call__(self, host: str, event: dict[str, Any], /) -> None:
        """Take one progress line of one host."""


def ignore(_host: str, _event: dict[str, Any], /) -> None:
    """Take progress and do nothing."""


class Fleet:
    """Some hosts, and connections to them that are kept from step to step.

    Args:
        hosts: with unique names.
        settings: time-outs, keys, how many at once.
        root: the installation's folder on every host.
        agent: the program that is run there, a folder.
        on_event: takes progress.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        settings: Settings,
        *,
        root: str,
        agent: Path = AGENT,
        on_event: OnEvent = ignore,
    ) -> None:
        self.hosts = list(hosts)
        self.root = root
        self.on_event = on_event
        self._settings = settings
        self._links = {host.name: _link(host, settings, root, agent) for host in hosts}
        if len(self._links) != len(self.hosts):
            raise ReleaseError(f"host names are not unique: {', '.join(self.names)}")

    def __repr__(self) -> str:
        return f"<Fleet [{len(self.hosts)} hosts] {self.root}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        """Names of all hosts, in order."""
        return [host.name for host in self.hosts]

    def close(self) -> None:
        """End all connections."""
        for link in self._links.values():
            link.close()

    def run(
        self,
        op: str,
        request: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None,
        *,
        hosts: Iterable[str] | None = None,
        timeout_s: float | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> dict[str, Outcome]:
        """Run one operation on *hosts*, all at once up to ``parallel_count``; return their outcomes in order.

        Args:
            op: operation of the agent.
            request: its arguments, or a function that gives those of one host; the root is added.
            hosts: names; all when None.
            timeout_s: for the operation on one host; ``step_timeout_s`` when None.
            files: of this machine, one for each host, brought before; the arguments get its ``file`` there.
        """
        limit_s = self._settings.step_timeout_s if timeout_s is None else timeout_s
        digests = {path: sha256_of(path) for path in set((files or {}).values())}

        def work(name: str) -> dict[str, Any]:
            own = request(name) if callable(request) else request or {}
            link, brought = self._links[name], {}
            if files is not None:
                file = files[name]
                brought = {"file": link.put(file, sha256=digests[file], timeout_s=limit_s)}
            line = msgspec.json.encode({"root": self.root, **own, **brought})
            return link.exchange(op, line, timeout_s=limit_s, on_event=lambda event: self._tell(name, event))

        return self._fan_out(op, hosts, work, limit_s)

    def _tell(self, name: str, event: dict[str, Any]) -> None:
        """Pass progress on; that it cannot be shown is no reason for a step to fail."""
        with contextlib.suppress(Exception):
            self.on_event(name, event)

    def _fan_out(
        self, op: str, hosts: Iterable[str] | None, work: Callable[[str], dict[str, Any]], limit_s: float
    ) -> dict[str, Outcome]:
        asked = self.names if hosts is None else list(hosts)
        # Connect, send the agent, run: each has a limit of its own, so this one is for threads that hang.
        hung_s = 4 * self._settings.connect_timeout_s + 2 * limit_s + SLACK_S + HUNG_SLACK_S
        parallel_count = self._settings.parallel_count
        outcomes = fan_out(asked, lambda name: _outcome(name, op, work), parallel_count, hung_s)
        return complete(asked, op, outcomes)


def fan_out(
    names: Sequence[str], work: Callable[[str], Outcome], parallel_count: int, hung_s: float
) -> dict[str, Outcome]:
    """Run *work* for each name in threads, at most *parallel_count* at once; leave out those that hang.

    The threads are daemons: one that hangs past *hung_s* neither holds up the others nor the exit.
    """
    done: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()
    waiting = list(reversed(names))
    since: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    while waiting or since:
        while waiting and len(since) < max(1, parallel_count):
            name = waiting.pop()
            since[name] = time.monotonic()
            threading.Thread(
                target=lambda name=name: done.put((name, work(name))), name=f"host {name}", daemon=True
            ).start()
        try:
            name, outcome = done.get(timeout=1.0)
        except queue.Empty:
            since = {name: began for name, began in since.items() if time.monotonic() - began < hung_s}
            continue
        if since.pop(name, None) is not None:
            outcomes[name] = outcome
    return outcomes


def complete(asked: Sequence[str], op: str, found: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return outcomes of exactly the hosts that were asked, in order; who did not answer is ``missing``.

    Raises:
        ReleaseError: somebody answered who was not asked.
    """
    if strangers := sorted(found.keys() - set(asked)):
        raise ReleaseError(f"{op}: answers of hosts that were not asked: {', '.join(strangers)}")
    missing = "gave no answer at all in the time that every step has"
    return {
        name: found.get(name, Outcome(host=name, op=op, ok=False, kind="missing", reason=missing))
        for name in asked
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(host: Host, settings: Settings, root: str, agent: Path) -> Link:
    if host.is_local:
        return LocalLink(host.name, agent)
    from release.hosts.ssh import SshLink  # noqa: PLC0415 - a local deploy needs none of it

    return SshLink(host, settings, root=root, agent=agent)


def _outcome(name: str, op: str, work: Callable[[str], dict[str, Any]]) -> Outcome:
    """Do the work of one host; turn whatever comes of it into an outcome."""
    began = time.monotonic()
    try:
        answer = work(name)
    except HostError as exc:
        outcome = Outcome(host=name, op=op, ok=False, kind=exc.kind, reason=exc.reason, log=exc.log)
    except Exception as exc:  # noqa: BLE001 - one host's surprise must not stop the others
        reason = f"{type(exc).__name__}: {exc}"
        outcome = Outcome(host=name, op=op, ok=False, kind="protocol", reason=reason)
    else:
        outcome = from_answer(name, op, answer)
    return msgspec.structs.replace(outcome, duration_s=time.monotonic() - began)


def from_answer(name: str, op: str, answer: dict[str, Any]) -> Outcome:
    """Make an outcome of the last line of the agent."""
    if answer.get("ok") is True:
        return Outcome(host=name, op=op, ok=True, answer=answer)
    log = answer.get("log")
    return Outcome(
        host=name,
        op=op,
        ok=False,
        answer=answer,
        kind=str(answer.get("kind") or "failed"),
        reason=str(answer.get("error") or "failed without a reason"),
        log=[str(line) for line in log] if isinstance(log, list) else [],
    )
