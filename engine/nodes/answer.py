"""One answer of a cache, and the sign by which its own answers are known in passing. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

SAMPLE_BYTES: Final = 2048  #: of a body, in an answer's text
MARK_NAME: Final = b"\r\npurgeline-cache:"  #: how a mark begins, in lower case
NOTHING: Final = b"\r\npurgeline-count: 0\r\n"  #: a Varnish says that it dropped no object; in lower case


class Answer(NamedTuple):
    """One response: its status, the bytes of its body, and whether the connection goes on after it."""

    status: int
    body_bytes: int
    keep_alive: bool
    text: bytes = b""
    """Its head and what lay behind it, up to `SAMPLE_BYTES` of the body; empty when it bears the own mark, or
    nobody asks for one."""
    said: bytes = b""
    """The same of a 400, whatever mark it bears: only the cache's own words say what it cannot read."""
    had_nothing: bool = False  #: it bears `NOTHING`


class Sign(NamedTuple):
    """By what the answers of one node are told apart in passing."""

    mark: bytes  #: the line of its own mark, with the line ends on both sides
    number: bytes = b""  #: what stands before the number that differs in each answer, with a line end first
    again: bytes = b""  #: what stands before the same number in the body
