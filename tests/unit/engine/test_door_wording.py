"""What requests of caches' clients ask for. Each row of docs/cms.md is sent to an engine in tests/service."""

from __future__ import annotations

import re

import pytest

from engine.doors.asked import Asked, anywhere
from engine.doors.hosts import Hosts
from engine.doors.purge.heads import HeadReader
from engine.doors.purge.wording import understand
from engine.errors import RequestError
from engine.intake.host_rules import HostRules

HOST = "www.example.com"


def asked(line: str, *fields: str, sites: tuple[str, ...] = (HOST,)) -> Asked:
    rules = HostRules(sites)
    hosts = Hosts(rules.allows, sites, defaults=[], own=[], port=9182)
    text = "\r\n".join([f"{line} HTTP/1.1", *fields]) + "\r\n\r\n"
    return understand(HeadReader().read(text.encode("latin-1")), hosts)


@pytest.mark.parametrize(
    ("line", "fields", "kind", "targets"),
    [
        ("PURGE /a?b=c", (f"Host: {HOST}",), "url", [f"http://{HOST}/a?b=c"]),
        (f"PURGE https://{HOST}/a", (), "url", [f"https://{HOST}/a"]),
        (f"PURGE http://{HOST}", (), "url", [f"http://{HOST}/"]),
        (f"PURGE http://{HOST}?q", (), "url", [f"http://{HOST}/?q"]),
        ("PURGE /news.x/.*", (f"Host: {HOST}",), "prefix", [f"http://{HOST}/news.x/"]),
        ("PURGE /.*", (f"Host: {HOST}",), "host", [HOST]),
        ("BAN /", (), "host", [HOST]),
        ("BAN /news*", (), "prefix", [f"http://{HOST}/news"]),
        ("BAN ^/news", (), "", []),
        ("BAN /(a|b)/.*", (), "regex", [f"http://{HOST}/(a|b)/.*"]),
        ("URIBAN /news", (f"Host: {HOST}",), "prefix", [f"http://{HOST}/news"]),
        ("BAN /", ("X-Host: .*", "X-Url: .*"), "host", [HOST]),
        ("BAN /", ("X-Url: ^/a/.*",), "regex", [f"http://{HOST}/a/.*"]),
        ("BAN /", ("ban-url: ^/a/",), "regex", [f"http://{HOST}/a/"]),
        ("BAN /", (f"ban-host: ^{HOST.replace('.', chr(92) + '.')}$",), "host", [HOST]),
        ("GET /purge/a?b", (f"Host: {HOST}",), "url", [f"http://{HOST}/a?b"]),
        ("GET /purge/a/*", (f"Host: {HOST}",), "prefix", [f"http://{HOST}/a/"]),
        ("BAN /", ("X-Cache-Tags: .*",), "host", [HOST]),
        ("BAN /", ("Varnish-Ban-All: 1",), "host", [HOST]),
    ],
)
def test_method_path_and_fields_say_what_is_purged(
    line: str, fields: tuple[str, ...], kind: str, targets: list[str]
) -> None:
    if not kind:
        with pytest.raises(RequestError, match="takes /path"):
            asked(line, *fields)
        return
    assert asked(line, *fields) == Asked(kind, targets)


def test_of_hosts_below_a_name_a_prefix_is_a_regex() -> None:
    found = asked("BAN /a.b/*", sites=("*.example.com", "a.org"))
    assert found == Asked("regex", [r"http://*.example.com/a\.b/", r"http://a.org/a\.b/"])


def test_tags_go_to_every_host_that_the_token_may_purge() -> None:
    found = asked("PURGEKEYS /", "xkey-softpurge: a b", sites=("a.org", "*.example.com"))
    keys = [{"host": host, "key": key} for host in ("a.org", "*.example.com") for key in ("a", "b")]
    assert found == Asked("key", keys, soft=True)
    assert asked("PURGE /", "x-xkey-soft: a b", sites=("a.org", "*.example.com")) == found
    assert asked("BAN /", r"X-Host: ^(a\.org)$", "X-Cache-Tags: a", sites=("a.org", "b.org")).targets == [
        {"host": "a.org", "key": "a"}
    ]


@pytest.mark.parametrize("line", ["GET /a", "REFRESH /a"])
def test_a_refresh_fetches_again(line: str) -> None:
    found = asked(line, f"Host: {HOST}", "Cache-Control: no-cache")
    assert found == Asked("url", [f"http://{HOST}/a"], prefetch=True)


@pytest.mark.parametrize(
    ("line", "fields", "status", "says"),
    [
        ("POST /a", (), 405, "takes PURGE"),
        ("GET /a", (f"Host: {HOST}",), 405, "no-cache"),
        ("PURGE *", (), 400, "takes /path"),
        ("PURGE ftp://a/", (), 400, "takes /path"),
        ("PURGE /a#b", (f"Host: {HOST}",), 400, "'#'"),
        ("PURGE /a", ("Content-Length: 3",), 400, "no body"),
        ("PURGE /a", (f"Host: {HOST}", "X-Purge-Method: all"), 400, "takes default"),
        ("PURGE /a", (f"Host: {HOST}", "X-Purge-Method: tags"), 400, "X-Cache-Tags-Pattern"),
        ("BAN /", ("X-Content-Type: image/png",), 400, "type"),
        ("BAN /", ("X-Cache-Tags: ",), 400, "there are none"),
        ("BAN /", ("Varnish-Ban-TYPO3-Pid: x",), 400, "number"),
        ("PURGEKEYS /", (), 400, "xkey-purge"),
    ],
)
def test_what_nobody_can_do_is_refused(line: str, fields: tuple[str, ...], status: int, says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)) as caught:
        asked(line, *fields)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("^/news/", "/news/a", True),
        ("^/news/", "/old/news/a", False),
        ("/news/", "/old/news/a", True),
        ("/news/", "/news/a", True),
        ("^/a|^/b", "/b", True),
        ("^/a|^/b", "/x/b", False),
        ("(/a|/b)$", "/x/b", True),
        ("(/a|/b)$", "/b/x", False),
        (r"\.png$", "/x.png", True),
    ],
)
def test_an_expression_for_any_part_of_the_path_keeps_its_meaning(
    pattern: str, path: str, *, matches: bool
) -> None:
    """Python's `re` reads these as PCRE does; the cache puts ``^/`` before what stands behind the slash."""
    assert bool(re.search(f"^/(?:{anywhere(pattern)})", path)) is matches
