"""What a request of a cache's client asks for: its kind and its targets. Pure.

The clients, what they send and what is made of it stand in docs/cms.md. Which of them it is nobody says: the
method, the path and a few fields tell, and no two clients mean different things by the same ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from engine.doors.asked import Asked, anywhere
from engine.doors.purge import tags
from engine.doors.purge.heads import HAS_BODY
from engine.errors import RequestError

if TYPE_CHECKING:
    from engine.doors.hosts import Hosts
    from engine.doors.purge.heads import Head

METHODS: Final = ("PURGE", "BAN", "URIBAN", "PURGEKEYS", "REFRESH", "GET")
_ALLOW: Final = {"Allow": ", ".join(METHODS)}
_URL: Final = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_REGEX_SIGNS: Final = re.compile(r"[*+()\[\]{}|^$\\]")
_PURGE_PATH: Final = "/purge"
_LISTS: Final = ("xkey", "xkey-purge", "surrogate-key", "cache-tag", "x-xkey")
_SOFT_LISTS: Final = ("xkey-softpurge", "x-xkey-soft")
_PATTERNS: Final = ("x-cache-tags-pattern", "x-magento-tags-pattern", "apiplatform-ban-regex")
_EITHER: Final = ("x-cache-tags", "cache-tags", "purge-cache-tags", "varnish-ban-typo3-tag")
"""Fields that some clients write as a list, and others as a pattern."""
_BANS: Final = frozenset({"x-url", "x-host", "x-content-type", "ban-url", "ban-host"})
_ANY: Final = frozenset({"", ".*", "^.*$", ".", "^.*", ".*$"})


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a request points."""

    scheme: str
    authority: str  #: empty: the request line has a path alone
    path: str  #: with its query


def understand(head: Head, hosts: Hosts) -> Asked:
    """Return what a request asks for.

    Nearly all requests are ``PURGE /path`` with a Host, and are read at once: the way of the others comes to
    the same for them, at three times the cost.

    Raises:
        RequestError: 400, 403, 405; the text names what is wrong and what it takes.
    """
    method, target, fields = head.method, head.target, head.fields
    if (
        method == "PURGE"
        and fields.is_silent
        and not fields.body_bytes
        and target[0] == "/"
        and target[-1] != "*"
        and "#" not in target
    ):
        named = hosts.named("", fields.host)
        if len(named) == 1:
            return Asked("url", [f"http://{named[0]}{target}"])
    if method not in METHODS:
        raise RequestError(405, f"{method}: takes {', '.join(METHODS)}", headers=_ALLOW)
    if fields.body_bytes:
        raise RequestError(400, HAS_BODY)
    place = _place(target)
    if method == "GET":
        return _get(head, place, hosts)
    if method == "REFRESH":
        return Asked("url", _urls(place, hosts.named(place.authority, head.get("host"))), prefetch=True)
    if not fields.is_silent and (asked := _by_fields(head, place, hosts)) is not None:
        return asked
    if method == "PURGEKEYS":
        raise RequestError(400, "PURGEKEYS: takes tags in xkey-purge or xkey-softpurge")
    if method == "PURGE" and not place.path.endswith("*"):
        return Asked("url", _urls(place, hosts.named(place.authority, head.get("host"))))
    return _wide(place.path, place, hosts.named_or_all(place.authority, head.get("host")))


def _place(target: str) -> Place:
    if target.startswith("/"):
        place = Place("http", "", target)
    elif match := _URL.fullmatch(target):
        place = Place(match[1].lower(), match[2], match[3] if match[3].startswith("/") else f"/{match[3]}")
    else:
        raise RequestError(400, "the path: takes /path, or http://host/path")
    if "#" in place.path:
        raise RequestError(400, "the path: has '#', which must be percent-encoded")
    return place


def _urls(place: Place, hosts: list[str]) -> list[str]:
    return [f"{place.scheme}://{host}{place.path}" for host in hosts]


def _get(head: Head, place: Place, hosts: Hosts) -> Asked:
    """Read a GET: of a purge location, or one that is to fetch past the cache."""
    named = hosts.named(place.authority, head.get("host"))
    if place.path.startswith(f"{_PURGE_PATH}/"):
        inner = msgspec.structs.replace(place, path=place.path.removeprefix(_PURGE_PATH))
        return (
            _wide(inner.path, inner, named) if inner.path.endswith("*") else Asked("url", _urls(inner, named))
        )
    if "no-cache" in head.get("cache-control").lower():
        return Asked("url", _urls(place, named), prefetch=True)
    detail = "GET: takes /purge/path, or Cache-Control: no-cache to fetch the page again"
    raise RequestError(405, detail, headers=_ALLOW)


def _by_fields(head: Head, place: Place, hosts: Hosts) -> Asked | None:
    """Return what the fields of a request ask for; None: they leave it to the path."""
    if (of_tags := _tags(head)) is not None:
        soft, names = of_tags
        everywhere = hosts.matching(head.get("x-host"), place.authority, head.get("host"))
        if names is None:
            return _hosts(everywhere)
        if not names:
            raise RequestError(400, "tags: there are none; takes one or more")
        return Asked("key", [{"host": host, "key": name} for host in everywhere for name in names], soft)
    values = head.fields.values
    if "varnish-ban-all" in values:
        return _hosts(hosts.all(place.authority, head.get("host")))
    if not _BANS.isdisjoint(values):
        return _ban(head, place, hosts)
    return _purge_method(head, place, hosts)


def _tags(head: Head) -> tuple[bool, list[str] | None] | None:
    """Return whether a purge by tags is soft, and its tags (None: all); None: it is no purge by tags."""
    values = head.fields.values
    for name in _SOFT_LISTS:
        if name in values:
            return True, tags.words(values[name])
    for name in _LISTS:
        if name in values:
            return False, tags.words(values[name])
    for name in _PATTERNS:
        if name in values:
            return False, tags.of_pattern(values[name], name)
    for name in _EITHER:
        if name in values:
            return False, tags.of_field(values[name], name)
    page = values.get("varnish-ban-typo3-pid")
    if page is None:
        return None
    if not re.fullmatch("[0-9]{1,10}", page):
        raise RequestError(400, "varnish-ban-typo3-pid: takes the number of a page")
    return False, [f"pageId_{page}"]


def _ban(head: Head, place: Place, hosts: Hosts) -> Asked:
    """Read a ban by expressions for host and path."""
    if head.get("x-content-type") not in _ANY:
        detail = "x-content-type: no cache is purged by the type of its objects; takes .* or nothing"
        raise RequestError(400, detail)
    of_hosts = head.get("x-host") or head.get("ban-host")
    everywhere = hosts.matching(of_hosts, place.authority, head.get("host"))
    pattern = head.get("x-url") or head.get("ban-url")
    if pattern in _ANY or pattern in {"/", "^/", "/.*", "^/.*", "^/.*$"}:
        return _hosts(everywhere)
    return Asked("regex", [f"http://{host}/{anywhere(pattern)}" for host in everywhere])


def _purge_method(head: Head, place: Place, hosts: Hosts) -> Asked | None:
    word = head.get("x-purge-method").lower()
    if word == "regex":
        return _wide(place.path, place, hosts.named_or_all(place.authority, head.get("host")))
    if word in {"", "default", "exact", "tags"}:
        if word == "tags":
            raise RequestError(400, "x-purge-method: tags: takes them in X-Cache-Tags-Pattern")
        return None
    raise RequestError(400, f"x-purge-method: {word[:40]!r}: takes default, exact, regex or tags")


def _hosts(hosts: list[str]) -> Asked:
    return Asked("host", hosts)


def _wide(path: str, place: Place, hosts: list[str]) -> Asked:
    """Return the purge of all that begins with a path, which may end in a wildcard, or be an expression."""
    start = (
        path.removesuffix("$").removesuffix(".*").removesuffix("*") if path.endswith(("*", "*$")) else path
    )
    start = start.removeprefix("^") if start.startswith("^/") else start
    if start == "/":
        return _hosts(hosts)
    if _REGEX_SIGNS.search(start):
        return Asked("regex", _of_each(place, hosts, path.removeprefix("^").removeprefix("/")))
    if any(host.startswith("*") for host in hosts):
        return Asked("regex", _of_each(place, hosts, re.escape(start[1:])))
    return Asked("prefix", _of_each(place, hosts, start[1:]))


def _of_each(place: Place, hosts: list[str], rest: str) -> list[str]:
    return [f"{place.scheme}://{host}/{rest}" for host in hosts]
