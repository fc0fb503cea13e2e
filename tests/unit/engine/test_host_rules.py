"""Which hosts may be purged."""

from __future__ import annotations

import pytest

from engine.intake.host_rules import HOSTS_CACHED_MAX, HostRules


@pytest.mark.parametrize(
    ("rules", "host", "allowed"),
    [
        (["example.com"], "example.com", True),
        (["example.com"], "example.com:8080", True),
        (["example.com"], "www.example.com", False),
        (["example.com"], "badexample.com", False),
        (["*.example.com"], "img.example.com", True),
        (["*.example.com"], "a.b.example.com:81", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], ".example.com", False),
        (["*.example.com"], "*.example.com", True),
        (["*.com", "a.org"], "*.example.com", True),
        (["*.img.example.com", "img.example.com"], "*.example.com", False),
        (["example.com"], "*.example.com", False),
        (["*"], "*.example.com", True),
        (["*"], "*", False),
        (["*"], "*.*.com", False),
        (["*.example.com"], "badexample.com", False),
        (["*.example.com"], "img.example.com.evil.org", False),
        (["*"], "anything.org", True),
        (["*"], "", False),
        ([], "anything.org", True),
        (["[::1]"], "[::1]", True),
        (["[::1]"], "[::1]:8080", True),
        (["[::1]"], "[::2]", False),
        (["a.org", "*.b.org"], "x.b.org", True),
        (["a.org", "*.b.org"], "b.org", False),
    ],
)
def test_host_rules(rules: list[str], host: str, allowed: bool) -> None:
    """Each form of a rule takes what it says; asking again, from the cache, gives the same."""
    hosts = HostRules(rules)
    assert hosts.allows(host) is allowed
    assert hosts.allows(host) is allowed


def test_host_rules_within_others() -> None:
    """Both the token's sites and the engine's must allow a host."""
    hosts = HostRules(["*.example.com", "b.org"], within=HostRules(["img.example.com"]))
    assert hosts.allows("img.example.com")
    assert not hosts.allows("www.example.com")
    assert not hosts.allows("b.org")


def test_host_cache_has_an_end() -> None:
    """Clients choose the hosts; their number does not grow the memory."""
    hosts = HostRules(["*.example.com"])
    assert all(hosts.allows(f"{number}.example.com") for number in range(HOSTS_CACHED_MAX + 10))
    assert len(hosts._cache) == 10
