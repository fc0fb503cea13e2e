"""What each cache is sent, byte for byte, and what its answers mean."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.config.load import parse
from engine.config.tables import NodeConfig
from engine.nodes import drivers
from engine.tasks.words import Operation, Outcome

CACHES = [name for name in drivers.DRIVERS if name != "engine"]  # which is sent no such text
URL = "http://img.example.com/a/b.jpg?x=1"
ACKED, ABSENT, REFUSED, RETRY, FAILED, _ = Outcome


def node(driver: str, **extra: Any) -> NodeConfig:
    table = {"name": "n", "driver": driver, "url": "http://127.0.0.1:1", **extra}
    return parse({"node": [table]}).node[0]


def text(driver: str, operation: Operation, target: str, **extra: Any) -> str:
    return drivers.requester(node(driver, **extra), operation)(target)


BANS = "BAN / HTTP/1.1\r\nHost: example.com\r\nPurgeline-Ban-Hosts: *.example.com\r\n"
BAN = "BAN / HTTP/1.1\r\nHost: img.example.com\r\nPurgeline-Ban-Host: img.example.com\r\n"


@pytest.mark.parametrize(
    ("driver", "operation", "target", "extra", "expected"),
    [
        ("varnish", "PURGE_URL", URL, {}, "PURGE /a/b.jpg?x=1 HTTP/1.1\r\nHost: img.example.com\r\n\r\n"),
        ("squid", "PURGE_URL", URL, {}, "PURGE /a/b.jpg?x=1 HTTP/1.1\r\nHost: img.example.com\r\n\r\n"),
        ("ats", "PURGE_URL", "http://a:8080/", {}, "PURGE / HTTP/1.1\r\nHost: a:8080\r\n\r\n"),
        ("ats", "PURGE_URL", "https://[::1]/x", {}, "PURGE /x HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
        ("ats", "PURGE_URL", "http://a//b/", {}, "PURGE //b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("nginx", "PURGE_URL", URL, {}, "PURGE /purge/a/b.jpg?x=1 HTTP/1.1\r\nHost: img.example.com\r\n\r\n"),
        (
            "nginx",
            "PURGE_URL",
            "http://a/x",
            {"purge_path": "/p/q"},
            "PURGE /p/q/x HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "nginx",
            "PURGE_PREFIX",
            "http://a/x",
            {"wildcard": True},
            "PURGE /purge/x* HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "nginx",
            "PURGE_HOST",
            "a:8080",
            {"wildcard": True, "purge_path": "/p"},
            "PURGE /p/* HTTP/1.1\r\nHost: a:8080\r\n\r\n",
        ),
        (
            "squid",
            "PURGE_URL",
            "http://a/x",
            {"purge_method": "DELETE"},
            "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "squid",
            "PURGE_URL",
            "http://a/x",
            {"headers": {"X-Secret": "s", "Y": ""}},
            "PURGE /x HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\nY: \r\n\r\n",
        ),
        (
            "varnish",
            "SOFT_URL",
            "http://a/x",
            {},
            "PURGE /x HTTP/1.1\r\nHost: a\r\nPurgeline-Soft: 1\r\n\r\n",
        ),
        (
            "varnish",
            "PURGE_REGEX",
            "http://img.example.com/.*[.]jpg$",
            {},
            BAN + "Purgeline-Ban-Url: ^/(?:.*[.]jpg$)\r\n\r\n",
        ),
        (
            "varnish",
            "PURGE_PREFIX",
            "http://img.example.com/a.b/c?",
            {},
            BAN + "Purgeline-Ban-Url: ^/a\\.b/c\\?\r\n\r\n",
        ),
        ("varnish", "PURGE_HOST", "img.example.com", {}, BAN + "\r\n"),
        (
            "varnish",
            "PURGE_HOST",
            "*.example.com",
            {},
            BANS + "\r\n",
        ),
        (
            "varnish",
            "PURGE_REGEX",
            "http://*.example.com/a|b",
            {},
            BANS + "Purgeline-Ban-Url: ^/(?:a|b)\r\n\r\n",
        ),
        (
            "varnish",
            "PURGE_KEY",
            "*.a.com/k",
            {},
            "PURGEKEY / HTTP/1.1\r\nHost: a.com\r\nPurgeline-Keys: *.a.com/k\r\n\r\n",
        ),
        (
            "varnish",
            "PURGE_KEY",
            "a/k:1",
            {},
            "PURGEKEY / HTTP/1.1\r\nHost: a\r\nPurgeline-Key: a/k:1\r\n\r\n",
        ),
        (
            "varnish",
            "SOFT_KEY",
            "a/k",
            {},
            "PURGEKEY / HTTP/1.1\r\nHost: a\r\nPurgeline-Key: a/k\r\nPurgeline-Soft: 1\r\n\r\n",
        ),
        (
            "varnish",
            "PURGE_KEY",
            "a/k",
            {"key_mode": "ban", "headers": {"X": "y"}},
            "PURGEKEY / HTTP/1.1\r\nHost: a\r\nPurgeline-Key: a/k\r\nX: y\r\n\r\n",
        ),
    ],
)
def test_a_request_is_these_bytes(
    driver: str, operation: str, target: str, extra: dict[str, Any], expected: str
) -> None:
    assert text(driver, Operation[operation], target, **extra) == expected


@pytest.mark.parametrize("driver", CACHES)
def test_a_prefetch_looks_like_a_clients_get_and_ignores_the_purge_path(driver: str) -> None:
    assert text(driver, Operation.PREFETCH, URL, headers={"X": "y"}, purge_path="/p") == (
        "GET /a/b.jpg?x=1 HTTP/1.1\r\nHost: img.example.com\r\nUser-Agent: purgeline\r\n"
        "Accept: */*\r\nAccept-Encoding: gzip\r\nX: y\r\n\r\n"
    )


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "ACCEPT", "accept-Encoding"])
def test_a_nodes_own_header_stands_instead_of_the_usual_one(name: str) -> None:
    node = NodeConfig(name="n", driver="ats", url="http://127.0.0.1", headers={name: "mine", "X-Secret": "s"})
    text = drivers.requester(node, Operation.PREFETCH)("http://a.com/x")
    names = [line.partition(":")[0].lower() for line in text.split("\r\n")[1:-2]]
    assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent", "x-secret"]
    assert f"\r\n{name}: mine\r\n" in text


@pytest.mark.parametrize("driver", CACHES)
def test_every_request_is_one_request_with_one_host(driver: str) -> None:
    """Whatever a stored target may hold, it ends no line and no head."""
    odd = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")
    table = node(driver, **({"wildcard": True} if driver == "nginx" else {}))
    for operation in drivers.DRIVERS[driver].capabilities(table):
        kind = operation.name.partition("_")[2]
        target = {"HOST": "a.com", "KEY": f"a.com/{odd.replace(',', '')}"}.get(kind, f"http://a.com/{odd}")
        made = drivers.requester(table, operation)(target)
        assert made.isascii()
        assert made.endswith("\r\n\r\n")
        head = made.removesuffix("\r\n\r\n")
        assert "\r\n\r\n" not in head
        first, *lines = head.split("\r\n")
        assert re.fullmatch(r"[A-Z]+ [!-~]+ HTTP/1\.1", first)
        assert [line for line in lines if line.startswith("Host: ")] == ["Host: a.com"]


CAPABLE = {
    ("varnish", "none"): "PURGE_URL SOFT_URL PURGE_PREFIX PURGE_REGEX PURGE_HOST PREFETCH",
    ("varnish", "ban"): "PURGE_URL SOFT_URL PURGE_PREFIX PURGE_REGEX PURGE_HOST PREFETCH PURGE_KEY",
    ("varnish", "xkey"): "PURGE_URL SOFT_URL PURGE_PREFIX PURGE_REGEX PURGE_HOST PREFETCH PURGE_KEY SOFT_KEY",
    ("nginx", False): "PURGE_URL PREFETCH",
    ("nginx", True): "PURGE_URL PREFETCH PURGE_PREFIX PURGE_HOST",
    ("ats", None): "PURGE_URL PREFETCH",
    ("squid", None): "PURGE_URL PREFETCH",
}


@pytest.mark.parametrize(("driver", "mode"), CAPABLE)
def test_what_a_node_can_do(driver: str, mode: Any) -> None:
    extra = {"varnish": {"key_mode": mode}, "nginx": {"wildcard": mode}}.get(driver, {})
    table = node(driver, **extra)
    able = {operation.name for operation in Operation if operation in drivers.capabilities(table)}
    assert able == set(CAPABLE[driver, mode].split())
    assert {Operation[name] for name in able} >= {Operation.PURGE_URL, Operation.PREFETCH}


COMMON = {
    200: ACKED,
    201: ACKED,
    204: ACKED,
    299: ACKED,
    401: REFUSED,
    403: REFUSED,
    405: REFUSED,
    407: REFUSED,
    501: REFUSED,
    408: RETRY,
    425: RETRY,
    429: RETRY,
    500: RETRY,
    502: RETRY,
    503: RETRY,
    504: RETRY,
    300: REFUSED,
    301: REFUSED,
    304: REFUSED,
    400: FAILED,
    410: REFUSED,
    418: REFUSED,
    505: REFUSED,
    999: REFUSED,
}


@pytest.mark.parametrize("driver", CACHES)
@pytest.mark.parametrize("status", COMMON)
@pytest.mark.parametrize("body_bytes", [0, 200])
def test_statuses_that_mean_the_same_everywhere(driver: str, status: int, body_bytes: int) -> None:
    assert drivers.read(node(driver), Operation.PURGE_URL, status, body_bytes) is COMMON[status]


@pytest.mark.parametrize(
    ("driver", "status", "body_bytes", "outcome"),
    [
        ("ats", 404, 0, ABSENT),
        ("ats", 404, 1, REFUSED),
        ("ats", 412, 0, REFUSED),
        ("squid", 404, 0, ABSENT),
        ("squid", 404, 1, REFUSED),
        ("squid", 412, 0, REFUSED),
        ("ats", 202, 0, ACKED),
        ("squid", 202, 0, ACKED),
        ("varnish", 202, 0, ACKED),
        ("nginx", 202, 170, REFUSED),  # queued
        ("nginx", 404, 0, ABSENT),
        ("nginx", 404, 150, ABSENT),
        ("nginx", 412, 0, ABSENT),
        ("nginx", 412, 9, ABSENT),
        ("varnish", 404, 0, ABSENT),
        ("varnish", 404, 300, ABSENT),
        ("varnish", 412, 0, REFUSED),
    ],
)
def test_not_cached_is_told_from_not_served_here(
    driver: str, status: int, body_bytes: int, outcome: Outcome
) -> None:
    assert drivers.read(node(driver), Operation.PURGE_URL, status, body_bytes) is outcome


def test_a_ban_that_is_not_found_is_refused() -> None:
    for operation in (
        Operation.PURGE_PREFIX,
        Operation.PURGE_REGEX,
        Operation.PURGE_HOST,
        Operation.PURGE_KEY,
    ):
        assert drivers.read(node("varnish"), operation, 404, 0) is REFUSED
    assert drivers.read(node("varnish"), Operation.SOFT_URL, 404, 0) is ABSENT


@pytest.mark.parametrize("driver", CACHES)
def test_of_a_prefetch_only_2xx_put_the_content_into_the_cache(driver: str) -> None:
    for status, outcome in COMMON.items():
        expected = FAILED if outcome is REFUSED else outcome
        assert drivers.read(node(driver), Operation.PREFETCH, status, 0) is expected
    for body_bytes in (0, 9):
        assert drivers.read(node(driver), Operation.PREFETCH, 404, body_bytes) is FAILED


@pytest.mark.parametrize(
    ("driver", "extra", "start"),
    [
        ("varnish", {}, "PURGE /.purgeline-probe HTTP/1.1\r\n"),
        ("nginx", {}, "PURGE /purge/.purgeline-probe HTTP/1.1\r\n"),
        ("nginx", {"purge_path": "/p", "purge_method": "DELETE"}, "DELETE /p/.purgeline-probe HTTP/1.1\r\n"),
    ],
)
def test_a_probe_asks_where_and_how_purges_do(driver: str, extra: dict[str, str], start: str) -> None:
    asked = drivers.probe_text(node(driver, headers={"X-Secret": "s"}, **extra), "a1b2")
    assert asked == (f"{start}Host: purgeline-probe.invalid\r\nX-Secret: s\r\nPurgeline-Nonce: a1b2\r\n\r\n")
    purge = text(driver, Operation.PURGE_URL, "http://a/.purgeline-probe", **extra)
    assert purge.startswith(start)
