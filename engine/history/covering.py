"""Which purges cover a target. Pure.

A cache tells objects apart by host and path, so the scheme of a URL does not matter.
"""

from __future__ import annotations

import time
import zlib
from array import array
from typing import TYPE_CHECKING, Final

from engine.intake import pcre2
from engine.nodes.drivers.patterns import grouped
from engine.tasks.hashes import crc_of, line_hash_of
from engine.tasks.segments import start_of
from engine.tasks.words import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_URL: Final = Kind.URL
_HOST: Final = Kind.HOST
_PREFIX: Final = Kind.PREFIX
_REGEX: Final = Kind.REGEX
_SCHEMES: Final = ("http://", "https://")
_MATCH_S: Final = 0.2  #: for all patterns of a page; a pattern by itself may take some milliseconds


class Match:
    """How a task covers a target.

    Attributes:
        kind: of the task.
        target: of the task, the one that covers.
        is_sure: False for a pattern that nobody here could match.
    """

    __slots__ = ("is_sure", "kind", "target")

    def __init__(self, kind: str, target: str, *, is_sure: bool = True) -> None:
        self.kind = kind
        self.target = target
        self.is_sure = is_sure


class Cover:
    """What covers one target, for one page.

    Patterns are clients', and the threads that read are few: once matching has taken `_MATCH_S` in all, no
    other pattern is tried, and nobody knows whether it matches.

    Args:
        url: in stored form; empty: the target is none.
        key: ``host/key`` in stored form; empty: the target is none.
        host: in stored form, with its port, of either.

    Attributes:
        hosts: it, and the host patterns that cover it.
        words: the targets that cover it by their name, as they are stored.
        crcs: of each.
        line_hashes: of each, see `engine.tasks.hashes`.
    """

    def __init__(self, *, url: str, key: str, host: str) -> None:
        self._rest = url.partition("://")[2]
        self._path = self._rest[len(host) :]
        self._host = host
        hosts = hosts_covering(host)
        self.hosts = frozenset(hosts)
        names = [scheme + self._rest for scheme in _SCHEMES] if url else []
        if key:
            names += [one + key[len(host) :] for one in hosts]
        if not url and not key:
            names += hosts
        self._names = frozenset(names)
        self.words = [name.encode() for name in self._names]
        self.crcs = [*map(crc_of, self._names)]
        self.line_hashes = [*map(line_hash_of, self._names)]
        self._starts = frozenset(_starts_of(self._rest, len(host)) | {_crc(one) for one in hosts})
        self._patterns: dict[str, bool | None] = {}
        self._left_s = _MATCH_S  # for patterns

    def may_have_wide(self, starts: bytes, patterns: Iterable[str]) -> bool:
        """Tell whether wide purges of a block may cover it."""
        return not self._starts.isdisjoint(array("I", starts)) or any(
            self._match_pattern(pattern) is not False for pattern in patterns
        )

    def match(self, kind: str, targets: Sequence[str]) -> Match | None:
        """Return how a task covers it, or None."""
        if not self._names.isdisjoint(targets):
            return Match(kind, next(target for target in targets if target in self._names))
        if kind == _PREFIX and self._rest:
            for target in targets:
                if self._rest.startswith(start_of(kind, target)):
                    return Match(kind, target)
        elif kind == _HOST:
            for target in targets:
                if target in self.hosts:
                    return Match(kind, target)
        elif kind == _REGEX and self._rest:
            return self._match_patterns(kind, targets)
        return None

    def _match_patterns(self, kind: str, targets: Sequence[str]) -> Match | None:
        unsure: Match | None = None
        for target in targets:
            verdict = self._match_pattern(target)
            if verdict:
                return Match(kind, target)
            if verdict is None and unsure is None:
                unsure = Match(kind, target, is_sure=False)
        return unsure

    def _match_pattern(self, target: str) -> bool | None:
        if target in self._patterns:
            return self._patterns[target]
        _, _, host, pattern = target.split("/", 3)
        verdict: bool | None = False
        if self._rest and host in self.hosts:
            verdict = self._match_within_time(pattern)
        self._patterns[target] = verdict
        return verdict

    def _match_within_time(self, pattern: str) -> bool | None:
        if self._left_s <= 0:
            return None
        began = time.monotonic()
        verdict = pcre2.matches(f"^/{grouped(pattern)}", self._path)
        self._left_s -= time.monotonic() - began
        return verdict


def hosts_covering(host: str) -> list[str]:
    """Return a host, and the host patterns that cover it."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdecimal():
        name = host
    if name.startswith("["):
        return [host]
    labels = name.removeprefix("*.").split(".")
    first = 0 if name.startswith("*.") else 1
    covering = [f"*.{'.'.join(labels[place:])}" for place in range(first, len(labels))]
    return [host, *(one for one in covering if one != host)]


def _starts_of(rest: str, shortest: int) -> set[int]:
    """Return the CRC of every text that *rest* begins with, from behind its host on."""
    if not rest:
        return set()
    data = rest.encode()
    crc = zlib.crc32(data[:shortest])
    starts = set()
    for place in range(shortest, len(data)):
        crc = zlib.crc32(data[place : place + 1], crc)
        starts.add(crc)
    return starts


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())
