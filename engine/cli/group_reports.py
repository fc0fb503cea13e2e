"""``purgeline report-groups``: tells the engine which cache groups origins have invalidated (RFC 9875).

It runs beside a Varnish. What its log says is held here until the engine has saved a task for it: while no
engine answers, and in the order in which it came. The same groups of the same host count once as long as they
have not been sent; once they are on their way, they are sent again after that, so the last purge of a group
comes after its last report.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.cli import screen
from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED
from engine.cli.varnish_log import LogReader
from engine.client.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    import argparse

    from engine.cli.client import EngineClient
    from engine.cli.screen import Output
    from engine.cli.varnish_log import Logged
    from engine.client.bodies import Document

HELD_MAX: Final = 100_000  #: different reports while no engine takes them
_REPORTS_MAX: Final = 500  #: of one request
_BYTES_MAX: Final = 256 * 1024  #: of their fields
_PAUSE_S: Final = 0.5  #: after a request that failed, doubled each time
_PAUSE_MAX_S: Final = 30.0
_LATER: Final = frozenset({429, 503})
_NEVER: Final = frozenset({400, 413, 422})  #: what is sent is wrong, whenever it is sent
_FIELDS: Final = ("host", "method", "status", "groups", "id")
_COLUMNS: Final = ("task_id", "host", "groups")
_PATH: Final = "/v1/engine/group-reports"


def report_groups(args: argparse.Namespace, out: Output) -> int:
    """Report until it is told to stop (SIGTERM, SIGINT); what is held then is sent once more."""
    reports = Reports(out, since_s=args.since)
    command = [args.varnishlog, *(["-n", args.instance] if args.instance else [])]
    reader = LogReader(command, reports)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reports.stop())
    with connect(args, out, busy_attempts=1) as client:
        reader.start()
        try:
            reports.send_all(client)
        finally:
            reader.stop()
        return DONE if reports.send_last(client) else FAILED


class _Held(NamedTuple):
    """What the reports of one host and field have alike."""

    host: str
    groups: str


class Reports:
    """Reports that no engine has saved yet.

    Args:
        out: is told what becomes of them.
        since_s: older ones are left out: the log may go back further than this program was away.
    """

    def __init__(self, out: Output, *, since_s: float) -> None:
        self._out = out
        self._since_s = since_s
        self._changed = threading.Condition()
        self._held: dict[_Held, Logged] = {}
        self._is_begun = False
        self._is_over = False
        self._lost = 0

    def say(self, text: str) -> None:
        """Tell an operator what is wrong; in JSON, too: nobody waits for this command to end."""
        self._out.error(text, exit_code=FAILED)

    # Called by the reader's threads

    def take_past(self, logged: Logged) -> None:
        """Hold a report that was logged before, unless it is old."""
        if logged.at >= time.time() - self._since_s:
            self.take(logged)

    def take(self, logged: Logged) -> None:
        """Hold a report until it is sent; it has been logged now, and is as old as its origin was slow."""
        with self._changed:
            key = _Held(logged.host, logged.groups)
            if key not in self._held and len(self._held) >= HELD_MAX:
                self._lost += 1
            else:
                self._held[key] = logged
            self._changed.notify()
        if logged.is_cut:
            self.say(f"{logged.id}: the field of {logged.host} is too long, its last groups are lost")

    def begin(self) -> None:
        """Have `send_all` send: all of what was logged before is held, the same groups of a host once."""
        with self._changed:
            self._is_begun = True
            self._changed.notify()

    def stop(self) -> None:
        """Have `send_all` return."""
        self._is_over = True
        # The signal may have come while this very thread holds the condition: another one tells it.
        threading.Thread(target=self._wake, daemon=True).start()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # Called by the main thread

    def send_all(self, client: EngineClient) -> None:
        """Send what comes, until `stop`."""
        pause_s = _PAUSE_S
        while self._wait():
            why = self._send_some(client)
            if not why:
                pause_s = _PAUSE_S
                continue
            self.say(f"{len(self._held)} reports are held, again in {pause_s:g} s: {why}")
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def send_last(self, client: EngineClient) -> bool:
        """Send what is held, once; return whether that was all."""
        while self._held:
            if why := self._send_some(client):
                self.say(f"{len(self._held)} reports are not sent: {why}")
                return False
        return True

    def _wait(self) -> bool:
        """Wait until there is something to send; return whether to go on."""
        with self._changed:
            self._changed.wait_for(lambda: (self._held and self._is_begun) or self._is_over)
        return not self._is_over

    def _send_some(self, client: EngineClient) -> str:
        """Send the oldest reports; return why some are held still, empty: none is."""
        return self._send(client, self._next())

    def _send(self, client: EngineClient, sent: list[Logged]) -> str:
        try:
            outcomes = _ask(client, sent)
        except UnreachableError as exc:
            self._hold(sent)
            return str(exc)
        except RefusedError as exc:
            if exc.status not in _NEVER:
                self._hold(sent)
                return str(exc)
            if len(sent) == 1:
                self.say(f"{sent[0].id} of {sent[0].host} is lost: {exc}")
                return ""
            # One of them is refused, and must not keep the others.
            return next(filter(None, [self._send(client, [each]) for each in sent]), "")
        return self._settle(sent, outcomes)

    def _next(self) -> list[Logged]:
        """Take the oldest reports out."""
        sent: list[Logged] = []
        size = 0
        with self._changed:
            for key, logged in self._held.items():
                size += len(key.groups)
                if sent and (len(sent) == _REPORTS_MAX or size > _BYTES_MAX):
                    break
                sent.append(logged)
            for logged in sent:
                del self._held[_Held(logged.host, logged.groups)]
            lost, self._lost = self._lost, 0
        if lost:
            self.say(f"{lost} reports are lost: {HELD_MAX} different ones are held")
        return sent

    def _hold(self, sent: list[Logged]) -> None:
        """Put reports back, before those that came meanwhile."""
        with self._changed:
            held = {_Held(each.host, each.groups): each for each in sent}
            self._held = {**held, **self._held}

    def _settle(self, sent: list[Logged], outcomes: list[Document]) -> str:
        """Tell what became of reports, and hold those that are to come again; return why these are."""
        again: list[Logged] = []
        told: list[Document] = []
        why = ""
        for logged, outcome in zip(sent, outcomes, strict=True):
            problem = outcome.get("problem") or {}
            reason = problem.get("detail") or outcome.get("ignored")
            if problem.get("status") in _LATER:
                again.append(logged)
                why = str(reason)
                continue
            if reason:
                self.say(f"{logged.id} of {logged.host} is left out: {reason}")
            if "task_id" in outcome:
                told.append({"task_id": outcome["task_id"], "host": logged.host, "groups": logged.groups})
        self._hold(again)
        self._out.documents(told, _COLUMNS)
        screen.finish()  # whoever reads it wants it now
        return why


def _ask(client: EngineClient, sent: list[Logged]) -> list[Document]:
    """Return what became of each report.

    Raises:
        UnreachableError, RefusedError: nothing is known of any.
    """
    reports = [{name: getattr(each, name) for name in _FIELDS} for each in sent]
    asked = json.dumps({"reports": reports}).encode()
    outcomes: list[Document] = client.with_rows("reports", "POST", _PATH, asked)["reports"]
    if len(outcomes) != len(sent):
        raise UnreachableError(client.url, "the answer is none to these reports", sent=True)
    return outcomes
