"""What messages of varnish-towncrier ask for."""

from __future__ import annotations

import json

import pytest

from engine.doors.asked import Asked
from engine.doors.hosts import Hosts
from engine.doors.redis.messages import understand
from engine.errors import RequestError
from engine.intake.host_rules import HostRules

SITES = ["img.example.com", "*.shop.example"]
HOSTS = Hosts(HostRules(SITES).allows, SITES, defaults=["img.example.com"], own=None)


def asked(command: str, *value: str, host: str = "img.example.com") -> list[Asked]:
    return understand(json.dumps({"command": command, "host": host, "value": value}).encode(), HOSTS)


def test_values_on_many_hosts_are_refused_when_they_are_too_many_together() -> None:
    sites = [f"{number}.example.com" for number in range(11)]
    many = Hosts(HostRules(sites).allows, sites, defaults=(), own=None)
    body = {"command": "xkey", "value": [str(number) for number in range(10_000)]}
    with pytest.raises(RequestError, match="10000 on 11 hosts are over 100000 targets"):
        understand(json.dumps(body).encode(), many)


def keys(*names: str) -> list[dict[str, str]]:
    return [{"host": host, "key": name} for host in SITES for name in names]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (
            asked("purge", "/a", "b?c=d"),
            ("url", ["http://img.example.com/a", "http://img.example.com/b?c=d"]),
        ),
        (asked("purge", "/a?u=http://x"), ("url", ["http://img.example.com/a?u=http://x"])),
        (asked("purge", "/a", host=""), ("url", ["http://img.example.com/a"])),
        (asked("purge", "/a", host="x.shop.example"), ("url", ["http://x.shop.example/a"])),
        (asked("xkey", "a", "b, c a"), ("key", keys("a", "b", "c"))),
        (
            asked("ban.url", "^/n/", "^/m/"),
            ("regex", ["http://img.example.com/n/", "http://img.example.com/m/"]),
        ),
        (asked("ban.url", "^/n/", ".*"), ("host", ["img.example.com"])),
        (
            asked("ban", "req.http.host == img.example.com && req.url == /a"),
            ("url", ["http://img.example.com/a"]),
        ),
        (asked("ban", "obj.http.x-url ~ ^/n/"), ("regex", ["http://img.example.com/n/"])),
        (asked("ban", 'obj.http.x-host ~ "^img.example.com$"'), ("host", ["img.example.com"])),
        (asked("ban", "req.url ~ ."), ("host", ["img.example.com"])),
        (
            asked("ban", "req.http.host ~ \\.shop\\.example$ && req.url == /a.b"),
            ("regex", ["http://*.shop.example/a\\.b$"]),
        ),
    ],
)
def test_each_command_is_a_purge(made: list[Asked], wanted: tuple[str, object]) -> None:
    assert [(one.kind, one.targets, one.soft) for one in made] == [(*wanted, False)]


def test_soft_keys_are_soft_and_several_bans_are_several_purges() -> None:
    assert asked("xkey.soft", "a") == [Asked("key", keys("a"), soft=True)]
    assert [one.kind for one in asked("ban", "req.url ~ ^/a", "req.url ~ .")] == ["regex", "host"]


def test_fields_that_nobody_knows_are_not_looked_at() -> None:
    body = b'{"command": "purge", "host": "img.example.com", "value": ["/"], "by": {"x": [1]}}'
    assert understand(body, HOSTS) == asked("purge", "/")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("", 400, "not valid JSON"),
        ("[]", 422, "expected `object`"),
        ('{"command": "purge"}', 422, "required field `value`"),
        ('{"command": "purge", "value": "/a"}', 422, "expected `array`, got `str` - at `$.value`"),
        ('{"command": "purge", "value": []}', 422, "takes 1-10000 texts"),
        ('{"command": "flush", "value": ["/"]}', 422, "takes purge, xkey, xkey.soft, ban.url, ban"),
        ('{"command": "purge", "value": ["/"], "host": "evil.example"}', 403, "evil.example"),
        ('{"command": "purge", "value": ["http://img.example.com/"]}', 422, "is no path"),
        ('{"command": "purge", "value": ["/a#b"]}', 422, "is no path"),
        ('{"command": "purge", "value": [""]}', 422, "is no path"),
        ('{"command": "xkey", "value": [" , "]}', 422, "takes 1-10000 keys"),
        ('{"command": "ban", "value": ["obj.status == 404"]}', 400, "takes req.url and req.http.host"),
        ('{"command": "ban", "value": ["req.url ~ /a && req.url ~ /b"]}', 400, "is there twice"),
        ('{"command": "ban", "value": ["req.url !~ /a"]}', 400, "takes req.url"),
        ('{"command": "ban", "value": [""]}', 400, "takes req.url"),
        ('{"command": "ban", "value": ["req.url == a"]}', 400, "is no path"),
        ('{"command": "ban", "value": ["req.http.host == evil.example"]}', 403, "evil.example"),
        (json.dumps({"command": "ban", "value": ["req.url ~ /"] * 101}), 422, "takes 1-100 expressions"),
        (json.dumps({"command": "purge", "value": ["/"] * 10_001}), 422, "takes 1-10000 texts"),
    ],
)
def test_what_is_refused_says_what_would_be_right(body: str, status: int, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        understand(body.encode(), HOSTS)
    assert caught.value.status == status
    assert says in caught.value.detail
