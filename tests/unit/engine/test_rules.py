"""Which URLs tasks may name as their callback."""

from __future__ import annotations

import pytest

from engine.config.tables import CallbackConfig
from engine.notify.rules import CallbackRules


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://hook.example.com/a?b=c", None),
        ("https://hook.example.com:8443", None),
        ("http://a.wild.org/x", None),
        ("http://[::1]:8080/x", None),
        ("HTTP://HOOK.example.com/", None),
        ("http://wild.org/x", "no [[callback]] rule; allowed: hook.example.com, *.wild.org, [::1]"),
        ("http://evil.org/x", "no [[callback]] rule"),
        ("http://hook.example.com.evil.org/", "no [[callback]] rule"),
        ("ftp://hook.example.com/", "takes http(s)://"),
        ("//hook.example.com/", "takes http(s)://"),
        ("http:///x", "takes http(s)://"),
        ("http://hook.example.com:0/", "takes http(s)://"),
        ("http://hook.example.com:x/", "takes http(s)://"),
        ("http://[::1/", "takes http(s)://"),
        ("http://hook.example.com%2e.wild.org/", "takes http(s)://"),
        ("http://me:pw@hook.example.com/", "no user name"),
        ("http://hook.example.com/#x", "#fragment"),
        ("http://hook.example.com/a b", "without spaces"),
        ("http://hook.example.com/\r\nX: y", "without spaces"),
        ("http://hook.example.com/\n", "without spaces"),
        ("http://evil.org\\.wild.org/", "backslashes"),
        ("http://hök.example.com/", "printable ASCII"),
        ("", "printable ASCII"),
    ],
)
def test_only_hosts_with_a_rule_are_allowed(url: str, reason: str | None) -> None:
    """And nothing that two parsers could read differently."""
    rules = [CallbackConfig(host=host) for host in ("hook.example.com", "*.wild.org", "[::1]")]
    answer = CallbackRules(rules).allows(url)
    if reason is None:
        assert answer is None
    else:
        assert reason in (answer or "")


def test_without_rules_nothing_is_allowed() -> None:
    """Callbacks are off until an operator names a host."""
    reason = CallbackRules([]).allows("http://a.org/")
    assert reason == "host 'a.org' has no [[callback]] rule; allowed: none"


@pytest.mark.parametrize(
    ("host", "secret"),
    [("a.example.com", "name"), ("b.example.com", "long"), ("c.com", "short"), ("d.org", "any")],
)
def test_the_closest_rule_signs(host: str, secret: str) -> None:
    """The name itself, then the longest ``*.``, then ``*``; the order of the file does not matter."""
    rules = CallbackRules(
        [
            CallbackConfig(host="*", secret="any"),
            CallbackConfig(host="*.com", secret="short"),
            CallbackConfig(host="*.example.com", secret="long"),
            CallbackConfig(host="a.example.com", secret="name"),
        ]
    )
    assert rules.secret_for(host) == secret


def test_a_host_without_a_rule_has_no_secret() -> None:
    assert CallbackRules([CallbackConfig(host="a.org", secret="x")]).secret_for("b.org") == ""
