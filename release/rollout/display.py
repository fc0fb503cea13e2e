"""What the tasks on hosts need of a screen; `release.show.screen.Screen` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from rich.text import Text

    from release.hosts.remote import Outcome
    from release.rollout.report import Report


class Display(Protocol):
    """Progress for a person and the result for a person or a program. Events come from the hosts' threads."""

    is_json: bool  #: the result is one JSON document, by `result`

    @property
    def can_ask(self) -> bool:
        """Whether a person sits at a terminal and can be asked."""

    def ask(self, question: str) -> bool:
        """Ask for yes or no; whatever is not yes is no."""

    def say(self, text: str) -> None:
        """Print a sentence that is not the result."""

    def working(self) -> AbstractContextManager[None]:
        """Show the hosts at work."""

    def status(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show that something goes on on this machine; gives a function that says what."""

    def begin(self, step: str, hosts: Sequence[str]) -> None:
        """Show that a step begins on *hosts*."""

    def event(self, host: str, event: dict[str, Any], /) -> None:
        """Take a progress line of a host."""

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Show how a step ended on some hosts."""

    def result(self, document: object) -> None:
        """Print the result as JSON."""

    def lines(self, lines: Sequence[str], *, is_bad: bool = False) -> None:
        """Print lines of the result as they are."""

    def table(self, *columns: str, rows: Sequence[Sequence[str | Text]]) -> None:
        """Print the result as a table."""

    def report(self, report: Report, *, action: str, deploy_id: str) -> None:
        """Print how a run ended."""
