"""A cache of canaries: it keeps what a visit's header says, as the canary origin would have answered it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.fakes.node import Act, answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.node import Request


class CanaryCache:
    """Script of a `FakeNode`.

    Args:
        parent: where what is not kept comes from; None: from the origin.

    Attributes:
        kept: URL → value.
        lies: it acks purges and drops nothing.
        stores: it keeps what it fetches.
        drop_after_s: an acked purge does its work so much later.
        answers: said instead of a page, or of an ack, by method.
        seen: method and path of each request, in order.
    """

    def __init__(self, parent: CanaryCache | None = None) -> None:
        self.parent = parent
        self.kept: dict[str, str] = {}
        self.lies = False
        self.stores = True
        self.drop_after_s = 0.0
        self.answers: dict[str, bytes | Act] = {}
        self.seen: list[tuple[str, str]] = []

    def __call__(self, request: Request) -> Iterator[bytes | Act]:
        self.seen.append((request.method, request.path))
        if request.method in self.answers:
            yield self.answers[request.method]
        elif request.method == "GET":
            yield answer(200, self.get(request.url, request.headers["purgeline-canary"]).encode())
        else:
            if not self.lies:
                self._drop(request.url)
            yield answer()

    def get(self, url: str, value: str) -> str:
        """Return what a visitor gets who says *value*."""
        found = self.kept.get(url) or (value if self.parent is None else self.parent.get(url, value))
        if self.stores:
            self.kept[url] = found
        return found

    def _drop(self, url: str) -> None:
        if self.drop_after_s:
            threading.Timer(self.drop_after_s, self.kept.clear).start()
        else:
            self.kept.pop(url, None)
