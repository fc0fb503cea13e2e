"""Answers to clients: as both lanes hand them on, and as the fast lane writes them."""

from __future__ import annotations

import email.utils
import time
from collections import defaultdict
from collections.abc import Mapping  # noqa: TC003 - a compiled Struct has it resolved at import

import msgspec

from engine.base.phrases import phrase_of


class Reply(msgspec.Struct):
    """A finished answer, for whichever lane sends it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    task_id: str = ""  #: of the task that this engine has saved, for doors
    total: int = 0  #: its subtasks


class ReplyWriter:
    """Writes replies as HTTP/1.1; the heads are made once a second and kind.

    Args:
        server: value of ``Server``.

    Attributes:
        counts: replies by status; 60 ns each.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self.counts: dict[int, int] = defaultdict(int)
        self._heads: dict[tuple[int, str, bool], bytes] = {}
        self._heads_at = 0

    def write(self, reply: Reply, *, is_last: bool) -> bytes:
        """Return the bytes of a response; *is_last* announces that the connection is closed after it."""
        status, content_type, body = reply.status, reply.content_type, reply.body  # each look is a call
        self.counts[status] += 1
        now = int(time.time())
        if now != self._heads_at:
            self._heads.clear()
            self._heads_at = now
        key = (status, content_type, is_last)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._make_head(reply, now, is_last=is_last)
        if reply.headers:
            extra = ""
            for name, value in reply.headers.items():  # there is seldom more than one
                extra += f"{name}: {value}\r\n"
            return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, extra.encode(), len(body), body)
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def _make_head(self, reply: Reply, now: int, *, is_last: bool) -> bytes:
        """Return the head of a response up to ``Content-Length``."""
        lines = [
            f"HTTP/1.1 {reply.status} {phrase_of(reply.status)}",
            f"Server: {self._server}",
            f"Date: {email.utils.formatdate(now, usegmt=True)}",
            f"Content-Type: {reply.content_type}",
            *(["Connection: close"] if is_last else []),
            "",
        ]
        return "\r\n".join(lines).encode()
