"""Whose answer it is, by bytes that real caches sent: their own answers, and those that they passed on."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.tables import Driver, NodeConfig
from engine.nodes import drivers
from engine.nodes.evidence import Whose
from engine.tasks.words import Operation

OWN, UNTOLD, FORWARDED = Whose
TARGET = "http://img.example.com/a"

VARNISH = """\
HTTP/1.1 200 Purged
Date: Sun, 29 Nov 2026 12:48:45 GMT
Server: Varnish
X-Varnish: 32770
Content-Type: text/html; charset=utf-8
Retry-After: 5
Content-Length: 240
Connection: keep-alive

<!DOCTYPE html>
<html><p>XID: 32770</p></html>
"""
ATS = """\
HTTP/1.1 200 OK
Date: Sun, 29 Nov 2026 12:48:48 GMT
Connection: keep-alive
Server: ATS/9.2.9
Content-Length: 0

"""
ATS_NO_RULE = """\
HTTP/1.1 404 Not Found on Accelerator
Date: Sun, 29 Nov 2026 12:48:51 GMT
Connection: keep-alive
Server: ATS/9.2.9
Cache-Control: no-store
Content-Type: text/html
Content-Language: en
Content-Length: 297

<HTML>
"""
ATS_PASSED = """\
HTTP/1.1 200 OK
Date: Sun, 29 Nov 2026 12:48:49 GMT
Cache-Control: public, max-age=3600
Content-Length: 0
Age: 0
Connection: keep-alive
Server: ATS/9.2.9

"""
NGINX = """\
HTTP/1.1 200 OK
Server: nginx/1.22.1
Date: Sun, 29 Nov 2026 12:48:52 GMT
Content-Type: text/html
Content-Length: 276
Connection: keep-alive

<html>
<head><title>Successful purge</title></head>
<body bgcolor="white">
<center><h1>Successful purge</h1>
<br>Key : img.example.com/a
<br>Path: /cache/5/24/5177b1430288797ea807e92268267245
</center>
<hr><center>nginx/1.22.1</center>
</body>
</html>
"""
FORK = """\
HTTP/1.1 {status}
Server: nginx/1.22.1
Date: Mon, 30 Nov 2026 08:27:18 GMT
Content-Type: text/html
Content-Length: 170
Connection: keep-alive

<html><head><title>Cache Purge</title></head><body bgcolor="white"><center><h1>Cache Purge</h1>\
<p>Key: {key}</p><p>Status: {word}</p></center></body></html>"""
NGINX_PAGE = """\
HTTP/1.1 404 Not Found
Server: nginx/1.22.1
Date: Sun, 29 Nov 2026 12:48:53 GMT
Content-Type: text/html
Content-Length: 153
Connection: keep-alive

<html>
<head><title>404 Not Found</title></head>
<body>
<center><h1>404 Not Found</h1></center>
<hr><center>nginx/1.22.1</center>
</body>
</html>
"""
SQUID = """\
HTTP/1.1 404 Not Found
Server: squid/5.7
Mime-Version: 1.0
Date: Sun, 29 Nov 2026 12:48:55 GMT
Content-Length: 0
X-Cache: MISS from edge
X-Cache-Lookup: NONE from edge:27082
Via: 1.1 edge (squid/5.7)
Connection: keep-alive

"""
SQUID_REFUSES = """\
HTTP/1.1 403 Forbidden
Server: squid/5.7
Mime-Version: 1.0
Date: Sun, 29 Nov 2026 12:48:58 GMT
Content-Type: text/html;charset=utf-8
Content-Length: 3073
X-Squid-Error: ERR_ACCESS_DENIED 0
X-Cache: MISS from edge
X-Cache-Lookup: NONE from edge:30858
Via: 1.1 edge (squid/5.7)
Connection: keep-alive

<!DOCTYPE html>
"""
SQUID_PASSED = """\
HTTP/1.1 200 OK
Date: Sun, 29 Nov 2026 12:48:56 GMT
Content-Length: 0
X-Cache: MISS from edge
X-Cache-Lookup: MISS from edge:27082
Via: 1.1 edge (squid/5.7)
Connection: keep-alive

"""
ORIGIN = """\
HTTP/1.1 200 OK
Date: Sun, 29 Nov 2026 12:48:46 GMT
Content-Length: 20
Connection: {connection}

v1 img.example.com/a
"""
ORIGIN_404 = """\
HTTP/1.1 404 Not Found
Server: origin
Date: Sun, 29 Nov 2026 12:48:46 GMT
Cache-Control: public, max-age=60
Content-Length: 0
"""


def node(driver: Driver, **extra: Any) -> NodeConfig:
    return NodeConfig(name="edge-1", driver=driver, url="http://127.0.0.1:1", **extra)


def whose(
    driver: Driver,
    answer: str,
    *changes: tuple[str, str],
    operation: Operation = Operation.PURGE_URL,
    target: str = TARGET,
    **extra: Any,
) -> Whose:
    """Return whose *answer* is, after each change of an old text to a new one."""
    for old, new in changes:
        assert old in answer
        answer = answer.replace(old, new)
    return drivers.whose(
        node(driver, **extra), operation, target, answer.replace("\n", "\r\n").encode("latin-1")
    )


@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        ("varnish", VARNISH),
        ("varnish", VARNISH.replace("200 Purged", "403 Forbidden")),
        ("ats", ATS),
        ("ats", ATS.replace("200 OK", "404 Not Found")),
        ("ats", ATS.replace("keep-alive", "close")),
        ("ats", ATS_NO_RULE),
        ("ats", ATS_NO_RULE.replace("404 Not Found on Accelerator", "403 Access Denied")),
        ("nginx", NGINX),
        ("nginx", NGINX.replace("Server: nginx/1.22.1\n", "")),
        ("squid", SQUID),
        ("squid", SQUID.replace("404 Not Found", "200 OK")),
        ("squid", SQUID.replace("Server: squid/5.7\n", "")),
        ("squid", SQUID_REFUSES),
    ],
)
def test_an_answer_in_the_shape_of_its_cache_is_its_own(driver: Driver, answer: str) -> None:
    """Refusals too."""
    assert whose(driver, answer) is OWN
    others: list[Driver] = ["varnish", "ats", "nginx", "squid"]
    assert [other for other in others if whose(other, answer) is OWN] == [driver]


@pytest.mark.parametrize(
    ("driver", "answer", "change"),
    [
        ("varnish", ORIGIN.format(connection="close"), ("", "")),
        ("varnish", VARNISH, ("keep-alive", "close")),
        ("varnish", VARNISH, ("Connection: keep-alive\n", "")),
        ("varnish", VARNISH, ("Connection:", "Age: 0\nConnection:")),
        ("varnish", VARNISH, ("Connection:", "Via: 1.1 varnish (Varnish/7.1)\nConnection:")),
        ("varnish", VARNISH, ("X-Varnish: 32770", "X-Varnish: 32770\nX-Varnish: 5")),
        ("varnish", VARNISH, ("X-Varnish: 32770", "X-Varnish: 32770 5")),
        ("varnish", VARNISH, ("<p>XID: 32770", "<p>XID: 5")),
        ("varnish", VARNISH, ("200 Purged", "204 Purged")),
        ("ats", ATS_PASSED, ("", "")),
        ("ats", ATS_PASSED, ("Age: 0\n", "")),
        ("ats", ATS, ("Content-Length: 0", "Age: 0\nContent-Length: 0")),
        ("ats", ATS, ("Content-Length: 0", "Content-Length: 0\nX-Origin: a")),
        ("ats", ATS, ("200 OK", "204 No Content")),
        (
            "ats",
            ATS_NO_RULE,
            ("Connection: keep-alive\nServer: ATS/9.2.9", "Server: ATS/9.2.9\nConnection: close"),
        ),
        ("ats", ATS_NO_RULE, ("no-store", "max-age=60")),
        (
            "nginx",
            ORIGIN.format(connection="keep-alive"),
            ("HTTP/1.1 200 OK\n", "HTTP/1.1 200 OK\nServer: nginx\n"),
        ),
        ("nginx", NGINX_PAGE, ("404 Not Found\nServer", "200 OK\nServer")),
        ("nginx", NGINX_PAGE, ("text/html", "text/html; charset=utf-8")),
        ("nginx", NGINX_PAGE, ("<hr><center>nginx/1.22.1", "<hr><center>nginx/1.18.0")),
        ("nginx", NGINX_PAGE, ("<h1>404 Not Found", "<h1>No such page")),
        ("nginx", NGINX_PAGE, ("Connection:", "Via: 1.1 varnish\nConnection:")),
        ("nginx", NGINX_PAGE, ("Connection:", "X-Varnish: 5\nConnection:")),
        ("nginx", NGINX_PAGE, ("Connection:", "Age: 0\nConnection:")),
        ("nginx", NGINX_PAGE, ("Connection:", "X-Cache: MISS\nConnection:")),
        ("nginx", NGINX, ("Connection:", "Via: 1.1 varnish\nConnection:")),
        ("squid", SQUID_PASSED, ("", "")),
        ("squid", SQUID, ("X-Cache-Lookup: NONE", "X-Cache-Lookup: MISS")),
        ("squid", SQUID, ("Via:", "X-Cache-Lookup: NONE from parent:1\nVia:")),
        ("squid", SQUID, ("Content-Length: 0", "Content-Length: 5")),
        ("squid", SQUID, ("HTTP/1.1", "HTTP/1.0")),
    ],
)
def test_what_a_server_behind_the_cache_said_is_forwarded(
    driver: Driver, answer: str, change: tuple[str, str]
) -> None:
    assert whose(driver, answer, change) is FORWARDED


@pytest.mark.parametrize(
    ("driver", "answer", "change"),
    [
        ("varnish", VARNISH, ("Server: Varnish\nX-Varnish: 32770\n", "")),
        ("varnish", VARNISH, ("Server: Varnish\n", "")),
        ("varnish", ORIGIN.format(connection="keep-alive"), ("", "")),
        ("nginx", NGINX_PAGE, ("", "")),
        ("nginx", NGINX_PAGE, ("Server: nginx/1.22.1\n", "")),
        ("nginx", NGINX_PAGE, ("404 Not Found", "403 Forbidden")),
        ("nginx", NGINX_PAGE, ("404 Not Found", "412 Precondition Failed")),
        ("nginx", NGINX, ("img.example.com/a", "origin/a")),
        ("nginx", NGINX, ("img.example.com/a", "img.example.com/other")),
        ("varnish", "no answer", ("", "")),
    ],
)
def test_what_a_server_behind_the_cache_could_have_said_is_not_told(
    driver: Driver, answer: str, change: tuple[str, str]
) -> None:
    assert whose(driver, answer, change) is UNTOLD


@pytest.mark.parametrize(("driver", "answer"), [("varnish", VARNISH), ("nginx", NGINX)])
def test_a_parent_could_have_given_the_answer_byte_by_byte(driver: Driver, answer: str) -> None:
    assert whose(driver, answer, parents=["parent-1"]) is UNTOLD


@pytest.mark.parametrize("driver", ["varnish", "ats", "nginx", "squid"])
def test_a_mark_counts_before_every_shape(driver: Driver) -> None:
    """The own name: own. Any other, also beside the own one: it came through the node."""
    answer = ORIGIN.format(connection="close")
    own, other = f"Purgeline-Cache: {driver} edge-1\n", f"Purgeline-Cache: {driver} edge-2\n"
    assert whose(driver, answer, ("Connection:", f"{own}Connection:"), parents=["parent-1"]) is OWN
    assert whose(driver, answer, ("Connection:", f"{own.lower()}Connection:")) is OWN
    for marks in (other, own + other, own.replace("edge-1", "edge-10")):
        assert whose(driver, answer, ("Connection:", f"{marks}Connection:")) is FORWARDED


@pytest.mark.parametrize(
    ("operation", "target", "key"),
    [
        (Operation.PURGE_URL, "http://a:8080/x?y=1", "a:8080/x?y=1"),
        (Operation.PURGE_URL, "https://a/x", "https://a/x"),
        (Operation.PURGE_PREFIX, "http://a/x", "a/x*"),
        (Operation.PURGE_HOST, "a:8080", "a:8080/*"),
    ],
)
def test_the_page_of_nginx_names_the_key_that_was_asked_for(
    operation: Operation, target: str, key: str
) -> None:
    page = NGINX.replace("Key : img.example.com/a", f"Key : {key}")
    assert whose("nginx", page, operation=operation, target=target, wildcard=True) is OWN
    assert whose("nginx", NGINX, operation=operation, target=target, wildcard=True) is UNTOLD
    for status, word in (("200 OK", "purged"), ("202 Accepted", "queued")):
        fork = FORK.format(status=status, key=key, word=word)
        assert whose("nginx", fork, operation=operation, target=target, wildcard=True) is OWN
        other = FORK.format(status=status, key="b/*", word=word)
        assert whose("nginx", other, operation=operation, target=target, wildcard=True) is UNTOLD


def test_an_accepted_wildcard_is_not_told() -> None:
    """Without `wildcard` a node has no answer of 202 of its own."""
    accepted = NGINX_PAGE.replace("404 Not Found\nServer", "202 Accepted\nServer")
    assert whose("nginx", accepted, wildcard=True) is UNTOLD
    assert whose("nginx", accepted) is FORWARDED


def test_varnish_8_ends_the_connection_after_an_unknown_method() -> None:
    """As a pipe to one does."""
    change = ("200 Purged", "501 Not Implemented"), ("keep-alive", "close")
    assert whose("varnish", VARNISH, *change) is UNTOLD


def test_what_a_prefetch_brings_is_the_caches_own() -> None:
    assert whose("varnish", ORIGIN.format(connection="close"), operation=Operation.PREFETCH) is OWN


@pytest.mark.parametrize(
    ("driver", "answer", "is_kept"),
    [
        ("varnish", ORIGIN_404 + "X-Varnish: 3\nAge: 0\nVia: 1.1 varnish (Varnish/7.1)\n", True),
        ("varnish", VARNISH.replace("200 Purged", "404 Not Found"), False),
        ("varnish", VARNISH.replace("200 Purged", "301 Moved").replace("keep-alive", "close"), False),
        ("ats", ATS_PASSED.replace("200 OK", "404 Not Found"), True),
        ("ats", ATS_PASSED.replace("200 OK", "404 Not Found").replace("public", "no-store"), False),
        ("ats", ATS_NO_RULE, False),
        ("nginx", ORIGIN_404 + "X-Cache-Status: MISS\n", True),
        ("nginx", NGINX_PAGE, False),
        ("nginx", ORIGIN_404, False),
        ("squid", SQUID_PASSED.replace("200 OK", "404 Not Found"), True),
        ("squid", SQUID_PASSED.replace("200 OK\n", "404 Not Found\nCache-Control: private\n"), False),
        ("squid", SQUID_REFUSES.replace("403 Forbidden", "404 Not Found"), False),
    ],
)
def test_a_missing_page_is_kept_when_the_origin_gave_it(driver: Driver, answer: str, is_kept: bool) -> None:
    """What the cache says itself is no page of the origin, nor is one kept that may not be."""
    answer = answer if "\n\n" in answer else answer + "\n"
    table = node(driver, prefetch_statuses=[301, 404])
    assert drivers.brings(table, answer.replace("\n", "\r\n").encode()) is is_kept


def test_without_its_bytes_no_missing_page_counts() -> None:
    assert not drivers.brings(node("varnish", prefetch_statuses=[404]), b"")
