"""What a run on hosts looks like: live lines while it goes on, a table at the end, or JSON.

Progress goes to standard error, the result to standard output, so a script can read the result without the
progress; neither has secrets in it. On a terminal there is a line per host that is at work; elsewhere each
step is a line of its own. Events come from the threads of the hosts.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from release.agent.redact import redact
from release.rollout.report import Fate, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from release.hosts.remote import Outcome
    from release.rollout.report import HostRun, Report

LOG_LINES: Final = 20  #: of a failed host, shown at the end
LINE_MAX: Final = 4000  #: characters
_SHOWN: Final = 16  #: hosts in the live view
_GOOD, _BAD, _OPEN = "green", "red", "yellow"
_STYLES: Final = {
    Fate.DONE: _GOOD,
    Fate.ALREADY: _GOOD,
    Fate.BACK: _OPEN,
    Fate.WAITING: _OPEN,
    Fate.BEGUN: _OPEN,
}


@dataclass(slots=True)
class _Line:
    """One host at work."""

    step: str
    since: float
    text: str = ""


class Screen:
    """The terminal of one task.

    Args:
        is_json: print one JSON document as the result.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.out = Console(highlight=False)
        if not self.out.is_terminal:
            self.out.width = LINE_MAX  # in a file or pipe a row stays a line
        self.err = Console(stderr=True, highlight=False)
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._live: Live | None = None

    # --- questions -------------------------------------------------------------------------

    @property
    def can_ask(self) -> bool:
        """Whether a person sits at a terminal and can be asked."""
        return sys.stdin.isatty() and self.err.is_terminal

    def ask(self, question: str) -> bool:
        """Ask for yes or no; whatever is not yes is no."""
        self.err.print(f"{redact(question)} [y/N] ", end="", markup=False)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    # --- while it goes on ------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a sentence that is not the result."""
        self.err.print(Text(redact(text)), soft_wrap=True)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Show the hosts at work."""
        if not self.err.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._view, console=self.err, refresh_per_second=8, transient=True
        ) as self._live:
            yield
        self._live = None

    @contextlib.contextmanager
    def status(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show that something goes on on this machine; gives a function that says what."""
        if not self.err.is_terminal:
            yield lambda _text: None
            return
        with self.err.status(Text(text)) as status:
            yield lambda text: status.update(Text(text))

    def begin(self, step: str, hosts: Sequence[str]) -> None:
        """A step begins on *hosts*."""
        with self._lock:
            for host in hosts:
                self._lines[host] = _Line(step, time.monotonic())

    def event(self, host: str, event: dict[str, Any], /) -> None:
        """Take a progress line of a host."""
        text = redact(describe(event))
        with self._lock:
            line = self._lines.get(host)
            if line is not None:
                line.text = text
        if line is not None and not self.err.is_terminal:
            self.err.print(Text(f"  {host}: {line.step}: {text}", style="dim"), soft_wrap=True)

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """A step has ended on some hosts."""
        for outcome in outcomes:
            with self._lock:
                line = self._lines.pop(outcome.host, None)
            step = line.step if line is not None else outcome.op
            sign, style = ("ok", _GOOD) if outcome.ok else ("failed", _BAD)
            text = Text(f"  {outcome.host}: {step} ").append(sign, style=style)
            text.append(f" in {outcome.duration_s:.1f} s" if outcome.ok else f": {redact(outcome.reason)}")
            self.err.print(text, soft_wrap=True)

    def _view(self) -> Table:
        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        with self._lock:
            lines = list(self._lines.items())
        for host, line in lines[:_SHOWN]:
            table.add_row(f"  {host}", line.step, f"{now - line.since:5.1f} s", Text(line.text, style="dim"))
        if len(lines) > _SHOWN:
            table.add_row(f"  and {len(lines) - _SHOWN} more")
        return table

    # --- the result ------------------------------------------------------------------------

    def result(self, document: object) -> None:
        """Print the result as JSON."""
        found = redact(msgspec.to_builtins(document, enc_hook=str))
        print(msgspec.json.encode(found).decode(), flush=True)

    def lines(self, lines: Sequence[str], *, is_bad: bool = False) -> None:
        """Print lines of the result as they are."""
        for line in lines:
            self.out.print(redact(line), style="red" if is_bad else None, markup=False, soft_wrap=True)

    def table(self, *columns: str, rows: Sequence[Sequence[str | Text]]) -> None:
        """Print rows under a heading; long cells are folded, nothing is cut."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(cell) for cell in row))
        self.out.print(table)

    def report(self, report: Report, *, action: str, deploy_id: str) -> None:
        """Print how a run ended: table, log lines of the hosts that failed, verdict."""
        if self.is_json:
            self.result(report_document(report, action=action, deploy_id=deploy_id))
            return
        self.table(
            *("host", "from", "to", "steps", "time", "outcome", "reason"),
            rows=[_row(host) for host in report.hosts],
        )
        for host in report.hosts:
            if host.log:
                self.out.print(Text(f"\n{host.plan.host} said last:", style="bold"))
                for line in host.log[-LOG_LINES:]:
                    self.out.print(Text(redact(f"  {line}")), soft_wrap=True)
        style = _GOOD if report.verdict is Verdict.DONE else _BAD
        text = Text(f"\n{action} {deploy_id}: ").append(str(report.verdict), style=style)
        text.append(f": {redact(report.reason)}" if report.reason else "").append(
            f", {report.duration_s:.1f} s"
        )
        self.out.print(text, soft_wrap=True)


def _cell(cell: str | Text) -> Text:
    """Return a cell without secrets; one that has any loses its colours within."""
    if isinstance(cell, str):
        return Text(redact(cell))
    shown = redact(cell.plain)
    return cell if shown == cell.plain else Text(shown, style=cell.style)


def describe(event: dict[str, Any]) -> str:
    """Return a progress line as text."""
    facts = [
        f"{key} {value}"
        for key, value in event.items()
        if key not in {"event", "at", "message"} and isinstance(value, str | int | float)
    ]
    return " ".join([str(event.get("message") or event.get("event", "")), *facts])


def report_document(report: Report, *, action: str, deploy_id: str) -> dict[str, Any]:
    """Return a report as a JSON document."""
    return {
        "action": action,
        "deploy_id": deploy_id,
        "verdict": str(report.verdict),
        "reason": report.reason,
        "duration_s": round(report.duration_s, 3),
        "hosts": [
            {
                "host": host.plan.host,
                "batch": host.batch,
                "from": host.plan.was,
                "to": host.plan.to,
                "steps": host.steps,
                "outcome": str(host.fate),
                "reason": host.reason,
                "log": host.log,
                "duration_s": round(host.duration_s, 3),
            }
            for host in report.hosts
        ],
    }


def _row(host: HostRun) -> list[str | Text]:
    return [
        host.plan.host,
        host.plan.was or "-",
        host.plan.to,
        " ".join(host.steps) or "-",
        f"{host.duration_s:.1f} s",
        Text(str(host.fate), style=_STYLES.get(host.fate, _BAD)),
        "" if host.fate is Fate.ALREADY else host.reason,
    ]
