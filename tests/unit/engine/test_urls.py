"""Targets in, stored forms out; what must never get through."""

from __future__ import annotations

import pytest

from engine.errors import RequestError
from engine.intake.urls import (
    TARGET_MAX_CHARS,
    are_plain,
    normalise_authority,
    normalise_key,
    normalise_url,
    plain_start,
)
from tests.fakes.urls import BAD, GOOD, generated_urls


@pytest.mark.parametrize(("target", "stored", "host"), GOOD)
def test_a_url_gets_its_stored_form(target: str, stored: str, host: str) -> None:
    assert normalise_url(target, "targets[0]") == (stored, host)


@pytest.mark.parametrize(("target", "stored", "host"), GOOD)
def test_normalising_twice_changes_nothing(target: str, stored: str, host: str) -> None:
    assert normalise_url(stored, "targets[0]") == (stored, host)


@pytest.mark.parametrize(("target", "reason"), BAD)
def test_what_cannot_be_sent_is_refused_and_the_text_says_where_and_why(target: str, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        normalise_url(target, "targets[7]")
    assert caught.value.status == 422
    assert caught.value.field == "targets[7]"
    assert caught.value.detail.startswith("targets[7]: ")
    assert reason in caught.value.detail
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 400


def test_a_fragment_sign_is_kept_where_it_is_asked_for() -> None:
    stored, _ = normalise_url("http://a.com/x#y", "t", keep_fragment=True)
    assert stored == "http://a.com/x#y"
    assert normalise_url(stored, "t", keep_fragment=True) == (stored, "a.com")


@pytest.mark.parametrize(
    ("host", "key", "stored"),
    [
        ("Example.com", "article-7", "example.com/article-7"),
        ("example.com:80", "a/b:c", "example.com/a/b:c"),
        ("[::1]:8080", "k", "[::1]:8080/k"),
        ("a", "~" * 1024, "a/" + "~" * 1024),
    ],
)
def test_a_key_is_stored_behind_its_host(host: str, key: str, stored: str) -> None:
    assert normalise_key(host, key, "t") == (stored, stored.partition("/")[0])
    again, _, same_key = stored.partition("/")
    assert normalise_key(again, same_key, "t")[0] == stored


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\r\nb", "ü", "x" * 1025, "a\x7f"])
def test_a_key_with_anything_else_is_refused(key: str) -> None:
    with pytest.raises(RequestError, match="1-1024 visible ASCII"):
        normalise_key("example.com", key, "t")


def test_the_default_port_of_the_scheme_is_left_out_of_a_host() -> None:
    assert normalise_authority("A.com:443", "t", scheme="https") == "a.com"
    assert normalise_authority("A.com:443", "t") == "a.com:443"


@pytest.mark.parametrize("seed", range(4))
def test_the_common_form_is_exactly_what_normalising_leaves_alone(seed: int) -> None:
    """Whatever is let through without a closer look is what the careful way gives for it."""
    passed = 0
    for url in generated_urls(seed, 20_000) + [target for target, *_ in GOOD + BAD]:
        start, host = plain_start(url)
        if host and are_plain([url]):
            passed += 1
            assert url.startswith(start)
            assert normalise_url(url, "t") == (url, host), f"seed {seed}: {url!r}"
    assert passed > 100


@pytest.mark.parametrize(
    "odd",
    [
        "http://a.com/b c",
        "http://a.com/b#c",
        "http://a.com/\x7f",
        "http://a.com/ü",
        "http://a.com/\n",
        5,
        ("a", "b"),
        "http://a.com/" + "x" * TARGET_MAX_CHARS,
    ],
)
def test_one_odd_target_among_plain_ones_is_seen(odd: object) -> None:
    plain = ["http://a.com/b"] * 3
    assert are_plain(plain)
    assert not are_plain([*plain, odd, *plain])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_stored_is_stable_and_can_stand_in_a_request(seed: int) -> None:
    stored_count = 0
    for url in generated_urls(100 + seed, 20_000):
        try:
            stored, host = normalise_url(url, "t")
        except RequestError:
            continue
        stored_count += 1
        assert normalise_url(stored, "t") == (stored, host), f"seed {seed}: {url!r}"
        assert stored.isascii(), repr(stored)
        assert stored.isprintable(), repr(stored)
        assert " " not in stored, repr(stored)
        assert stored.split("/", 3)[2] == host
    assert stored_count > 100
