"""Targets of every kind, brought to their stored form."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import RequestError
from engine.intake.targets import Normaliser, in_stored_form, normalise
from engine.intake.task_body import decode
from engine.intake.urls import normalise_url
from engine.intake.validate import all_hosts
from tests.fakes.urls import BAD, GOOD, generated_urls

if TYPE_CHECKING:
    from collections.abc import Callable


def stored_of(body: dict[str, Any], allows_host: Callable[[str], bool] = all_hosts) -> list[str]:
    return normalise(decode(json.dumps(body).encode()), allows_host)


def test_targets_are_normalised_and_kept_once_in_the_clients_order() -> None:
    targets = ["HTTP://B.example:80", "http://a.example/", "http://b.example/", "http://a.example/#x"]
    assert stored_of({"targets": targets}) == ["http://b.example/", "http://a.example/"]


@pytest.mark.parametrize(
    ("kind", "target", "stored"),
    [
        ("prefix", "http://A.com/img/", "http://a.com/img/"),
        ("prefix", "http://a.com/img*", "http://a.com/img"),
        ("prefix", "http://a.com/img**", "http://a.com/img"),
        ("prefix", "http://a.com/*", "http://a.com/"),
        ("prefix", "http://a.com", "http://a.com/"),
        ("regex", "http://A.com/.*\\.jpg$", "http://a.com/.*\\.jpg$"),
        ("regex", "http://a.com/a#b", "http://a.com/a#b"),
        ("key", "A.com/k", "a.com/k"),
        ("key", "a.com/a/b", "a.com/a/b"),
        ("key", {"host": "A.com:80", "key": "k"}, "a.com/k"),
        ("host", "A.com", "a.com"),
        ("host", "http://A.com:80", "a.com"),
        ("host", "https://a.com:443/", "a.com"),
        ("host", "a.com:8080", "a.com:8080"),
        ("host", "[::1]", "[::1]"),
        ("host", "*.A.com", "*.a.com"),
        ("host", "http://*.a.com:80/", "*.a.com"),
        ("key", "*.A.com/k", "*.a.com/k"),
        ("key", {"host": "*.bücher.example", "key": "*"}, "*.xn--bcher-kva.example/*"),
        ("regex", "http://*.A.com/.*\\.jpg$", "http://*.a.com/.*\\.jpg$"),
    ],
)
def test_each_kind_has_its_stored_form_and_storing_it_again_changes_nothing(
    kind: str, target: Any, stored: str
) -> None:
    assert stored_of({"kind": kind, "targets": [target]}) == [stored]
    assert stored_of({"kind": kind, "targets": [stored]}) == [stored]


@pytest.mark.parametrize("pattern", ["*", "*a.com", "a.*.com", "*.*.com", "*.a.com:81", "*.[::1]", "*."])
@pytest.mark.parametrize(("kind", "target"), [("host", "{}"), ("key", "{}/k"), ("regex", "http://{}/.*")])
def test_a_host_pattern_is_a_star_and_a_name(pattern: str, kind: str, target: str) -> None:
    with pytest.raises(RequestError) as caught:
        stored_of({"kind": kind, "targets": [target.format(pattern)]})
    assert caught.value.status == 422
    assert "host" in caught.value.detail


@pytest.mark.parametrize("kind", ["url", "prefix"])
def test_a_url_names_one_host(kind: str) -> None:
    with pytest.raises(RequestError, match="is not a valid host name"):
        stored_of({"kind": kind, "targets": ["http://*.a.com/a"]})


def test_a_host_outside_the_sites_is_refused_wherever_it_stands() -> None:
    def allows(host: str) -> bool:
        return host == "a.example"

    good = ["http://a.example/1", "http://A.example:80/2"]
    assert stored_of({"targets": good}, allows)[1] == "http://a.example/2"
    for bad in ("http://b.example/", "HTTP://B.example", "http://a.example:8080/", "http://a.example.b/"):
        with pytest.raises(RequestError, match=r"targets\[2\]: host .* is outside the sites"):
            stored_of({"targets": [*good, bad]}, allows)
    for kind, target in (("key", "b.example/k"), ("host", "b.example"), ("prefix", "http://b.example/")):
        with pytest.raises(RequestError, match=r"targets\[0\]: host"):
            stored_of({"kind": kind, "targets": [target]}, allows)


STARS = ["http://a.com/album/*", "http://a.com/a?q=*", "HTTP://a.com/*#x", "http://a.com/**"]


@pytest.mark.parametrize("action", ["purge", "prefetch"])
@pytest.mark.parametrize("star", STARS)
def test_a_url_that_ends_in_a_star_is_refused_with_the_kind_that_is_meant(star: str, action: str) -> None:
    """Also among many; a star elsewhere is a letter that nobody takes for more."""
    targets = ["http://a.com/1", "http://a.com/a*b", star, "http://a.com/2"]
    with pytest.raises(
        RequestError, match=r"targets\[2\]: ends in '\*'.*'prefix' \(--prefix\).*\"literal\": true"
    ):
        stored_of({"action": action, "targets": targets})
    assert stored_of({"action": action, "targets": targets, "literal": True}) == [
        targets[0],
        targets[1],
        star.partition("#")[0].replace("HTTP", "http"),
        targets[3],
    ]
    assert stored_of({"kind": "prefix", "targets": [star]})


def test_a_pattern_that_pcre2_cannot_read_is_refused_with_its_words() -> None:
    good = ["http://a.com/a|b", r"http://a.com/\Ka", r"http://a.com/\Qa(\E|b", "http://a.com/(?<n>a)#(?x)#b"]
    assert stored_of({"kind": "regex", "targets": good}) == good
    for bad in ("http://a.com/a)|(b", "http://a.com/*", "http://a.com/[", "http://a.com/(*UTF)a"):
        with pytest.raises(
            RequestError, match=r"targets\[1\]: .* no pattern that a cache can read: .*at character"
        ):
            stored_of({"kind": "regex", "targets": [good[0], bad]})
        asked = decode(json.dumps({"kind": "regex", "targets": [bad]}).encode())
        replayed = Normaliser(asked, all_hosts, is_replayed=True)
        assert replayed.work(1)
        assert replayed.targets() == [bad], "what was accepted before is"


def test_a_pattern_of_many_groups_within_each_other_is_refused() -> None:
    good, bad = (f"http://a.com/{'(a' * count}{')' * count}(b)" for count in (40, 41))
    assert stored_of({"kind": "regex", "targets": [good]}) == [good]
    with pytest.raises(RequestError, match=r"targets\[0\]: has 41 groups within each other, at most 40"):
        stored_of({"kind": "regex", "targets": [bad]})


def test_a_prefix_that_is_too_long_as_a_pattern_is_refused() -> None:
    for good in ("http://a.com/" + "-" * 4000, "http://a.com/" + "a" * 7999):
        assert stored_of({"kind": "prefix", "targets": [good]}) == [good]
    bad = "http://a.com/" + "-" * 4001
    with pytest.raises(
        RequestError, match=r"targets\[0\]: is 8002 characters long as a pattern, at most 8000"
    ):
        stored_of({"kind": "prefix", "targets": [bad]})
    asked = decode(json.dumps({"kind": "prefix", "targets": [bad]}).encode())
    replayed = Normaliser(asked, all_hosts, is_replayed=True)
    assert replayed.work(1)
    assert replayed.targets() == [bad], "what was accepted before is"


@pytest.mark.parametrize("target", ["http://a.com/k", "https://a.com/k/l", "HTTP://a.com/"])
def test_a_url_is_no_surrogate_key(target: str) -> None:
    with pytest.raises(RequestError, match=r"targets\[0\]: takes host/key.*; a URL goes with kind 'url'"):
        stored_of({"kind": "key", "targets": [target]})
    with pytest.raises(RequestError, match="no valid host"):
        stored_of({"kind": "key", "targets": [{"host": target, "key": "k"}]})
    assert stored_of({"kind": "key", "targets": ["a.com/http://b.com/k"]}) == ["a.com/http://b.com/k"]


def test_targets_worked_in_slices_are_the_same_targets() -> None:
    targets = [f"http://{'AB'[number % 7 // 6]}.com/{number % 900}" for number in range(1000)]
    asked = decode(json.dumps({"targets": targets}).encode())
    normaliser = Normaliser(asked, all_hosts)
    slices = 1
    while not normaliser.work(0):
        slices += 1
    assert slices > 10
    assert normaliser.targets() == normalise(asked, all_hosts)


def test_urls_in_stored_form_are_one_slice() -> None:
    asked = decode(json.dumps({"targets": [f"http://a.com/{number}" for number in range(1000)]}).encode())
    assert Normaliser(asked, all_hosts).work(0)


@pytest.mark.parametrize(
    ("targets", "site"),
    [
        (["http://a.com/"], "http://a.com/"),
        (["http://a.com/2", "http://a.com/1", "http://a.com/2"], "http://a.com/"),
        (["http://a.com/1", "http://b.com/1"], ""),
        (["http://a.com/1", "http://a.com.example/1"], ""),
        (["http://a.com/1", "https://a.com/1"], ""),
    ],
)
def test_the_one_site_of_targets_in_stored_form_is_known(targets: list[str], site: str) -> None:
    found = in_stored_form(decode(json.dumps({"targets": targets}).encode()), all_hosts)
    assert found == (list(dict.fromkeys(targets)), site)


@pytest.mark.parametrize("seed", range(3))
def test_many_targets_give_what_each_alone_gives(seed: int) -> None:
    """The short way for common URLs is the long way, only shorter; also between odd neighbours."""
    urls = [target for target, *_ in GOOD + BAD] * 20 + generated_urls(seed, 3000)
    random.Random(seed).shuffle(urls)
    expected: list[str] = []
    wrong: dict[str, str] = {}
    for url in urls:
        try:
            stored, _ = normalise_url(url, "targets[0]")
        except RequestError as exc:
            wrong[url] = exc.detail
        else:
            expected.append(url)
            assert stored_of({"targets": [url], "literal": True}) == [stored], f"seed {seed}: {url!r}"
    for url, detail in wrong.items():
        with pytest.raises(RequestError) as caught:
            stored_of({"targets": [url], "literal": True})
        assert caught.value.detail == detail, f"seed {seed}: {url!r}"
    assert stored_of({"targets": expected, "literal": True}) == list(
        dict.fromkeys(normalise_url(url, "t")[0] for url in expected)
    )
