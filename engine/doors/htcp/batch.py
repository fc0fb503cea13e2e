"""What one task of an HTCP door is to purge, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from engine.doors.htcp.messages import Cleared

if TYPE_CHECKING:
    from engine.intake.client import Client

Answer = Callable[[Cleared], None]
"""Tells the sender of one CLR what became of it."""

_URL_BYTES: Final = 200  #: that a URL in hand takes beside its letters
_TASK_BYTES: Final = 4096  #: that a task takes beside its URLs


class Batch:
    """The purges of one task.

    Args:
        client: whose they are.
        until: the loop's time until which they are handed in again.

    Attributes:
        urls: each once, and how many datagrams have named it.
        answers: who waits, and for which URL.
        count: of datagrams.
        size: bytes that all of it takes, about.
        is_literal: a URL ends in a sign that is meant so.
    """

    __slots__ = ("answers", "client", "count", "is_literal", "size", "until", "urls")

    def __init__(self, client: Client, until: float) -> None:
        self.client = client
        self.until = until
        self.urls: dict[str, int] = {}
        self.answers: list[tuple[str, Answer]] = []
        self.count = 0
        self.size = _TASK_BYTES
        self.is_literal = False

    def add(self, url: str, answer: Answer | None) -> int:
        """Take one purge; return how many bytes that takes."""
        size = len(url) + _URL_BYTES
        self.size += size
        self.urls[url] = self.urls.get(url, 0) + 1
        self.count += 1
        if url.endswith("*"):
            self.is_literal = True
        if answer is not None:
            self.answers.append((url, answer))
        return size

    def halves(self) -> tuple[Batch, Batch]:
        """Return two batches with a half of this one's each."""
        urls = list(self.urls)
        middle = len(urls) // 2
        first, second = (self._part(set(part)) for part in (urls[:middle], urls[middle:]))
        return first, second

    def _part(self, urls: set[str]) -> Batch:
        part = Batch(self.client, self.until)
        for url, count in self.urls.items():
            if url in urls:
                part.add(url, None)
                part.count += count - 1
                part.urls[url] = count
        part.answers = [(url, answer) for url, answer in self.answers if url in urls]
        return part
