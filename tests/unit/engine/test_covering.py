"""Which purges cover a target."""

from __future__ import annotations

import time
import zlib
from array import array

import pytest

from engine.history.covering import Cover, hosts_covering
from engine.history.question import read_target
from engine.intake import pcre2

URL = "http://img.example.com/album/a.jpg?w=1"


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("url", URL),
        ("url", "https://img.example.com/album/a.jpg?w=1"),  # caches do not tell schemes apart
        ("prefix", "http://img.example.com/"),
        ("prefix", "https://img.example.com/alb"),
        ("prefix", URL),
        ("host", "img.example.com"),
        ("host", "*.example.com"),
        ("host", "*.com"),
    ],
)
def test_a_url_is_covered(kind: str, target: str) -> None:
    cover = read_target(URL)
    match = cover.match(kind, ["http://other/", target])
    assert match is not None
    assert (match.kind, match.target, match.is_sure) == (kind, target, True)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("url", "http://img.example.com/album/a.jpg"),
        ("url", "http://img.example.com:81/album/a.jpg?w=1"),
        ("prefix", "http://img.example.com/albums"),
        ("prefix", "http://example.com/"),
        ("host", "example.com"),
        ("host", "*.img.example.com"),
        ("key", "img.example.com/album"),
    ],
)
def test_a_url_is_not_covered_by_others(kind: str, target: str) -> None:
    assert read_target(URL).match(kind, [target]) is None


@pytest.mark.skipif(not pcre2.is_installed(), reason="needs libpcre2-8")
@pytest.mark.parametrize(
    ("target", "covers"),
    [
        (r"http://img.example.com/album/.*\.jpg", True),
        (r"http://*.example.com/x|album", True),  # each alternative begins behind the host
        (r"http://img.example.com/.*\.jpg$", False),
        (r"http://img.example.com/lbum", False),
        (r"http://www.example.com/album", False),
    ],
)
def test_regular_expressions_are_matched_as_caches_do(target: str, *, covers: bool) -> None:
    cover = read_target(URL)
    assert (cover.match("regex", [target]) is not None) is covers
    assert cover.may_have_wide(b"", [target]) is covers


def test_a_pattern_that_nobody_can_match_may_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, or when it gives up: nothing is left out that may be the answer."""
    monkeypatch.setattr(pcre2, "_library", None)
    match = read_target(URL).match("regex", [r"http://img.example.com/.*"])
    assert match is not None
    assert not match.is_sure


@pytest.mark.skipif(not pcre2.is_installed(), reason="needs libpcre2-8")
def test_a_pattern_that_takes_for_ever_is_given_up() -> None:
    assert pcre2.matches("^/(?:(a+)+$)", "/" + "a" * 40 + "b") is None


@pytest.mark.skipif(not pcre2.is_installed(), reason="needs libpcre2-8")
def test_all_patterns_of_a_page_together_take_a_bounded_time() -> None:
    """Each is given up after a millisecond or more, and a task may have ten thousand."""
    cover = read_target("http://a.b/" + "a" * 60)
    began = time.thread_time()
    match = cover.match("regex", [f"http://a.b/(a+)+[bc](?#{number})" for number in range(1000)])
    assert match is not None
    assert not match.is_sure
    assert time.thread_time() - began < 0.8
    assert cover.match("url", ["http://a.b/" + "a" * 60]) is not None  # that needs no pattern


@pytest.mark.parametrize("asked", ["shop.example.com/p-1", "http://shop.example.com/p-1"])
def test_what_has_no_scheme_may_be_a_key_or_a_page(asked: str) -> None:
    cover = read_target(asked)
    is_key = "://" not in asked
    assert (cover.match("key", ["shop.example.com/p-1"]) is not None) is is_key
    assert (cover.match("key", ["*.example.com/p-1"]) is not None) is is_key
    assert cover.match("url", ["http://shop.example.com/p-1"]) is not None


def test_a_host_is_covered_by_purges_of_it_alone() -> None:
    cover = read_target("img.example.com")
    assert cover.match("host", ["img.example.com"])
    assert cover.match("host", ["*.example.com"])
    assert cover.match("prefix", ["http://img.example.com/"]) is None
    assert cover.match("url", [URL]) is None


@pytest.mark.parametrize(
    ("host", "covering"),
    [
        ("a.b.c", ["a.b.c", "*.b.c", "*.c"]),
        ("a.b.c:81", ["a.b.c:81", "*.b.c", "*.c"]),
        ("*.b.c", ["*.b.c", "*.c"]),
        ("localhost", ["localhost"]),
        ("[::1]", ["[::1]"]),
        ("[::1]:81", ["[::1]:81"]),
    ],
)
def test_hosts_and_their_patterns(host: str, covering: list[str]) -> None:
    assert hosts_covering(host) == covering


def test_hashes_of_starts_are_those_of_every_prefix() -> None:
    cover = Cover(url="http://a.b/cd", key="", host="a.b")
    for start in ("a.b", "*.b", "a.b/", "a.b/c", "a.b/cd"):
        assert cover.may_have_wide(array("I", [zlib.crc32(start.encode())]).tobytes(), [])
    assert not cover.may_have_wide(array("I", [zlib.crc32(b"a.b/d")]).tobytes(), [])
