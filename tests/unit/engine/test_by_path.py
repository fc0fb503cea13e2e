"""Texts of requests that are made together are those that are made one by one."""

from __future__ import annotations

from engine.nodes.drivers.by_path import PathRequester

TARGETS = [
    "http://a.com/",
    "http://a.com/x",
    "http://a.com/x/http://b.com/y?q=/",
    "http://a.com:81/x",
    "https://a.com/x",
    "http://a.co/x",
    "http://a.com/x",
    "http://[::1]:80/x",
]


def test_a_text_is_the_path_and_the_host() -> None:
    make = PathRequester("PURGE /p/", "\r\nX: y\r\n\r\n")
    assert make(TARGETS[2]) == "PURGE /p/x/http://b.com/y?q=/ HTTP/1.1\r\nHost: a.com\r\nX: y\r\n\r\n"
    assert make(TARGETS[3]) == "PURGE /p/x HTTP/1.1\r\nHost: a.com:81\r\nX: y\r\n\r\n"
    assert make(TARGETS[0]) == "PURGE /p/ HTTP/1.1\r\nHost: a.com\r\nX: y\r\n\r\n"


def test_texts_are_those_of_one_by_one_whatever_came_before() -> None:
    for first in TARGETS:
        make = PathRequester("PURGE /", "\r\n\r\n")
        make(first)
        alone = [PathRequester("PURGE /", "\r\n\r\n")(target) for target in TARGETS]
        assert make.texts(TARGETS) == "".join(alone)
        assert [make(target) for target in reversed(TARGETS)] == alone[::-1]
