"""Whose objects a request to a door is about."""

from __future__ import annotations

import pytest

from engine.doors.hosts import Hosts, every_host
from engine.errors import RequestError
from engine.intake.host_rules import HostRules

SITES = ["www.example.com", "*.shop.example.com"]


def hosts(sites: list[str] | None = None, defaults: tuple[str, ...] = ()) -> Hosts:
    rules = SITES if sites is None else sites
    every = every_host(rules, [])
    return Hosts(HostRules(rules).allows, every, defaults=defaults, own=["Varnish"], port=9182)


@pytest.mark.parametrize(
    ("authority", "host", "named"),
    [
        ("", "www.example.com", ["www.example.com"]),
        ("", "WWW.Example.com:80", ["www.example.com"]),
        ("", "www.example.com:9182", ["www.example.com"]),
        ("", "de.shop.example.com:8080", ["de.shop.example.com:8080"]),
        ("www.example.com", "de.shop.example.com", ["www.example.com"]),
        ("10.0.0.1:9182", "www.example.com", ["www.example.com"]),
        ("", "", ["a.org"]),
        ("", "127.0.0.1:9182", ["a.org"]),
        ("", "[::1]", ["a.org"]),
        ("", "varnish:9182", ["a.org"]),
        ("localhost", "varnish", ["a.org"]),
    ],
)
def test_the_door_itself_is_no_site(authority: str, host: str, named: list[str]) -> None:
    assert hosts(defaults=("a.org",)).named(authority, host) == named


def test_without_default_hosts_a_url_needs_a_site_and_tags_do_not() -> None:
    with pytest.raises(RequestError, match="default_hosts"):
        hosts().named("", "varnish")
    assert hosts().all("", "varnish") == SITES
    assert hosts().named_or_all("", "www.example.com") == ["www.example.com"]
    assert hosts().named_or_all("", "varnish") == SITES
    with pytest.raises(RequestError, match="default_hosts"):
        hosts(["*"]).all("", "varnish")
    assert hosts(["*"]).all("", "b.org") == ["b.org"]


@pytest.mark.parametrize("host", ["evil.org", "example.com", "shop.example.com"])
def test_a_foreign_host_is_refused_whatever_is_purged(host: str) -> None:
    for refused in (hosts().named, hosts().all, hosts().named_or_all):
        with pytest.raises(RequestError, match="not among the sites") as caught:
            refused("", host)
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", SITES),
        (".*", SITES),
        ("www.example.com", ["www.example.com"]),
        (r"^(www\.example\.com|de\.shop\.example\.com)$", ["www.example.com", "de.shop.example.com"]),
        (r"^(?:www\.example\.com)$", ["www.example.com"]),
        (r".*\.shop\.example\.com", ["*.shop.example.com"]),
        (r"^.*\.shop\.example\.com$", ["*.shop.example.com"]),
        (r"\.shop\.example\.com$", ["*.shop.example.com"]),
    ],
)
def test_an_expression_for_hosts_is_the_list_that_it_stands_for(pattern: str, found: list[str]) -> None:
    assert hosts().matching(pattern, "", "varnish") == found


@pytest.mark.parametrize(
    "pattern",
    [
        "w+",
        "(a|b",
        "[ab].example.com",
        "www.example.com|",
        r".*example\.com",
        "(a)(b)",
        r"^www\.",
        r"^\.shop\.example\.com$",
    ],
)
def test_another_expression_for_hosts_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError, match="takes a name, a list"):
        hosts().matching(pattern, "", "")
    with pytest.raises(RequestError, match="not among the sites"):
        hosts().matching(r"^(www\.example\.com|evil\.org)$", "", "")


@pytest.mark.parametrize(
    ("token", "engine", "both"),
    [
        ([], [], None),
        (["*"], ["*"], None),
        ([], ["a.org"], ["a.org"]),
        (["a.org", "b.org"], ["*.a.org", "a.org"], ["a.org"]),
        (["*.a.org"], ["x.a.org", "*.y.a.org", "a.org"], ["x.a.org", "*.y.a.org"]),
        (["x.a.org"], ["*.a.org"], ["x.a.org"]),
        (["x.a.org", "*.a.org"], ["*"], ["*.a.org"]),
        (["c.org"], ["a.org"], []),
    ],
)
def test_every_host_is_what_the_token_and_the_engine_both_allow(
    token: list[str], engine: list[str], both: list[str] | None
) -> None:
    assert every_host(token, engine) == both


@pytest.mark.parametrize(
    "pattern", ["www.example.com", "^www.example.com", "www.example.com$", r".*\.shop\.example\.com"]
)
def test_an_expression_that_is_taken_by_its_letter_has_both_ends(pattern: str) -> None:
    with pytest.raises(RequestError, match="both its ends"):
        hosts().matching(pattern, "", "", is_exact=True)
    assert hosts().matching(r"^www\.example\.com$", "", "", is_exact=True) == ["www.example.com"]
    assert hosts().matching(r"\.shop\.example\.com$", "", "", is_exact=True) == ["*.shop.example.com"]


@pytest.mark.parametrize("host", ["10.0.0.5", "localhost", "[::1]:80"])
def test_where_clients_know_no_door_every_name_is_that_of_a_site(host: str) -> None:
    nobody = Hosts(HostRules(SITES).allows, SITES, defaults=["www.example.com"], own=None)
    assert nobody.named("", "") == ["www.example.com"]
    for refused in (nobody.named, nobody.named_or_all, nobody.all):
        with pytest.raises(RequestError, match="not among the sites"):
            refused("", host)
