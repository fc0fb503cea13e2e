"""What is asked of the history. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import RequestError
from engine.history.covering import Cover, hosts_covering
from engine.intake.urls import normalise_authority, normalise_key, normalise_url
from engine.store.history import Wanted
from engine.tasks.hashes import crc_of
from engine.tasks.segments import action_bit, wide_words
from engine.tasks.settled import state_number
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Iterable

_CURSOR_MAX: Final = 128
CLOCKS_S: Final = 60.0  #: clocks of engines and of stores differ by less
_MAY_CHANGE: Final = sum(1 << state_number(state) for state in (State.ACCEPTED, State.RUNNING, State.PARTIAL))
"""States of which late delivery makes others."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks are asked for; what is empty does not matter. Times in UNIX seconds."""

    target: str = ""
    host: str = ""
    node: str = ""
    by: str = ""  #: name of a token, or an address
    only: str = ""  #: name of the token whose tasks alone the client may see
    action: str = ""
    state: str = ""
    since: float = 0.0
    until: float = math.inf
    reaches: bool = False  #: since and until are when purges may have reached caches, also late ones
    limit: int = 50
    before: tuple[float, str] = (
        math.inf,
        "",
    )  #: when the last task of the page before was created, and its id

    def cover(self) -> Cover | None:
        """Return what covers the target; None without one."""
        return read_target(self.target) if self.target else None

    def wanted(self, cover: Cover | None, oldest: float) -> Wanted:
        """Return what a block must have to be looked into; nothing older than *oldest* is."""
        hosts: Iterable[str] = () if cover is None else cover.hosts
        if self.host:
            hosts = hosts_covering(self.host)
        return Wanted(
            since=oldest,
            packed=oldest - CLOCKS_S if self.reaches else math.inf,
            until=min(self.until, self.before[0]),
            actions=action_bit(self.action) if self.action else 0,
            states=(1 << state_number(self.state)) | _MAY_CHANGE if self.state else 0,
            who=[name for name in (self.only, self.by) if name],
            node=self.node,
            hosts=[*map(crc_of, hosts)],
            crcs=() if cover is None else cover.crcs,
            line_hashes=() if cover is None else cover.line_hashes,
            takes_wide=cover is not None,
            words=self._words(cover),
        )

    def _words(self, cover: Cover | None) -> list[bytes]:
        if cover is not None:
            return [*cover.words, *wide_words()]
        if self.host:
            return [host.encode() for host in hosts_covering(self.host)]
        return [name.encode() for name in (self.only or self.by,) if name]


def read_host(host: str) -> str:
    """Return a host, or a host pattern, in stored form.

    Raises:
        RequestError: 422.
    """
    return normalise_authority(host, "host", takes_pattern=True)


def read_target(target: str) -> Cover:
    """Return what covers a target: a URL, ``host/key``, ``host/path`` or a host.

    Raises:
        RequestError: 422.
    """
    if "://" in target:
        url, host = normalise_url(target, "target", takes_pattern=True)
        return Cover(url=url, key="", host=host)
    name, slash, key = target.partition("/")
    if not slash:
        return Cover(url="", key="", host=normalise_authority(name, "target", takes_pattern=True))
    url, host = normalise_url(f"http://{target}", "target", takes_pattern=True)
    named = ""
    if key:
        try:
            named, _ = normalise_key(name, key, "target")
        except RequestError:
            named = ""  # no key is called so, and a path may be
    return Cover(url=url, key=named, host=host)


def read_cursor(cursor: str) -> tuple[float, str]:
    """Return when the last task of the page before was created, and its id.

    Raises:
        RequestError: 422.
    """
    if not cursor:
        return (math.inf, "")
    at, _, task_id = cursor.partition("~")
    try:
        created_at = float(at)
    except ValueError:
        created_at = math.nan
    if not math.isfinite(created_at) or len(cursor) > _CURSOR_MAX:
        raise RequestError(422, "cursor: takes the cursor of the page before", field="cursor")
    return (created_at, task_id)


def write_cursor(created_at: float, task_id: str) -> str:
    """Return the cursor of the page behind a task."""
    return f"{created_at!r}~{task_id}"
