"""Hosts that a cache refuses to purge: how often in a row, and what of theirs may still be sent.

A cache that *refuses* (ACL, method) is reachable; its subtasks fail and say why. After
`REFUSALS_BEFORE_HOLD` refusals in a row for one host the rest are failed unsent, but for one try
every `REFUSAL_HOLD_S`: an operator must act, and hammering helps nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.nodes.queue import Item

REFUSALS_BEFORE_HOLD: Final = 8
REFUSAL_HOLD_S: Final = 5.0
_HOSTS_MAX: Final = 1024
_PREFETCH: Final = Operation.PREFETCH  # see `health`


class Refused(NamedTuple):
    """The refusals of one host."""

    times: int  #: in a row
    last_at: float  #: when the last one came, or the last try of a held host went out
    reason: str


class Sifted(NamedTuple):
    """What becomes of requests that were about to be sent."""

    to_send: list[Item]
    held: list[tuple[Item, str]]  #: they fail unsent, with the reason
    later: list[Item]  #: they are queued again, in front


class Refusals:
    """The refused hosts of one node.

    Args:
        now: a clock that never goes back, in seconds: the loop's.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.hosts: dict[str, Refused] = {}  #: refused, with nothing acked since; changed here only

    def __repr__(self) -> str:
        return f"<Refusals [{len(self.hosts)} hosts]>"

    @property
    def is_holding(self) -> bool:
        """Whether a host has been refused so often that its requests are held."""
        return any(refused.times >= REFUSALS_BEFORE_HOLD for refused in self.hosts.values())

    def note(self, item: Item, reason: str) -> None:
        """Count a refused request for its host."""
        host = _host_of(item)
        if len(self.hosts) >= _HOSTS_MAX:
            self.hosts.clear()
        before = self.hosts.get(host)
        self.hosts[host] = Refused(before.times + 1 if before else 1, self._now(), reason)

    def clear(self, acked: list[Item]) -> bool:
        """Forget hosts that had a purge acked. Returns True when the last refused host went."""
        had_any = bool(self.hosts)
        for share, index, _ in acked:
            if share.operation is not _PREFETCH:  # a GET that is answered says nothing about purges
                self.hosts.pop(host_of(share.task.targets[index]), None)
        return had_any and not self.hosts

    def sift(self, items: list[Item], in_flight: Iterable[Item], size: int) -> Sifted:
        """Tell apart what may go out, what is held, and what is *on trial* and has to wait.

        A host is on trial when it was refused a moment ago, but not often enough to hold the rest: as many of
        its requests are on the wire as there are connections, no whole pipelines. Other hosts' go on as ever.

        Args:
            items: about to be sent.
            in_flight: on the wire already.
            size: connections at the most.
        """
        since = self._now() - REFUSAL_HOLD_S
        on_trial = {
            host
            for host, refused in self.hosts.items()
            if refused.times < REFUSALS_BEFORE_HOLD and refused.last_at > since
        }
        room = size - sum(_host_of(item) in on_trial for item in in_flight) if on_trial else 0
        sifted = Sifted([], [], [])
        for item in items:
            host = _host_of(item)
            if host not in on_trial:
                reason = self._held_reason(host)
                if reason:
                    sifted.held.append((item, reason))
                else:
                    sifted.to_send.append(item)
            elif room > 0:
                room -= 1
                sifted.to_send.append(item)
            else:
                sifted.later.append(item)
        return sifted

    def _held_reason(self, host: str) -> str:
        """Return why a request for *host* is not sent; empty: it is, for now as the host's one try."""
        refused = self.hosts.get(host)
        if refused is None or refused.times < REFUSALS_BEFORE_HOLD:
            return ""
        now = self._now()
        if now - refused.last_at >= REFUSAL_HOLD_S:
            self.hosts[host] = refused._replace(last_at=now)
            return ""
        return f"{refused.reason}; not sent, because it has refused {refused.times} in a row"


def host_of(target: str) -> str:
    """Return the host of a stored target of any kind."""
    if target.startswith(("http://", "https://")):  # a surrogate key may hold "://" itself
        return target.split("/", 3)[2]
    return target.partition("/")[0]


def _host_of(item: Item) -> str:
    share, index, _ = item
    return host_of(share.task.targets[index])
