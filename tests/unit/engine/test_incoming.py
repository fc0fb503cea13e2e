"""A body that comes in parts."""

from __future__ import annotations

from engine.config.tables import AuthConfig
from engine.intake.auth import Auth
from engine.intake.heads import Head
from engine.intake.incoming import Incoming

HEAD = Head(is_lines=False, body_bytes=5, authorization=b"", is_last=False)


def test_a_body_is_complete_with_its_last_byte_and_the_rest_is_the_next_requests() -> None:
    incoming = Incoming(HEAD, Auth(AuthConfig(), []).check(None, "submit"), b"a")
    assert incoming.take(b"bc") is None
    assert incoming.take(b"") is None
    assert incoming.take(b"deXY") == b"XY"
    assert incoming.body() == b"abcde"
