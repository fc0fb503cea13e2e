"""The engine's port: the queue of connections in front of it, and whether those are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.doctor.check import SALT, Check, Verdict, unknown
from engine.doctor.kernel import TUNING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.doctor.diag import Listener
    from engine.doctor.sockets import Tally

_CLOSED_MANY: Final = 60  #: connections in TIME_WAIT, which lasts a minute: one a second
_CLOSED_TIMES: Final = 5  #: so many for each that is open
_AGAIN: Final = "then start the engine again (a reload keeps its socket)"


def backlog(somaxconn: int | None, wanted: int, here: Sequence[Listener]) -> Check:
    """Check how many connections may wait to be accepted.

    Args:
        somaxconn: the kernel's limit now; a socket keeps the one of its start.
        wanted: ``listen_backlog``.
        here: sockets on the engine's port.
    """
    if somaxconn is None:
        return unknown("somaxconn", "the kernel has no net.core.somaxconn", limit=str(wanted))
    if somaxconn < wanted:
        reason = f"listen_backlog is {wanted}, and the kernel cuts that to {somaxconn} without a word"
        remedy = f"{TUNING}, {_AGAIN}"
        return Check("somaxconn", Verdict.WARN, str(somaxconn), str(wanted), reason, remedy)
    least = min((one.backlog for one in here), default=wanted)
    if least < wanted:
        reason = f"the engine's socket was opened when {least} was the limit, and keeps that"
        return Check("somaxconn", Verdict.WARN, f"{least} of the socket", str(wanted), reason, _AGAIN)
    return Check("somaxconn", Verdict.OK, str(somaxconn), str(wanted))


def drops(
    before: Sequence[Listener], after: Sequence[Listener], counters: Mapping[str, int], why_not: str = ""
) -> Check:
    """Check whether connections to the engine were dropped, because too many waited to be accepted.

    Args:
        before: sockets on the engine's port.
        after: the same some time later.
        counters: of the whole network namespace, see `Reader.counters`.
        why_not: why the kernel tells nothing of single sockets; empty: it does.
    """
    name = "listen_drops"
    all_here = f"{counters.get('ListenDrops', 0)} by all ports"
    if why_not:
        return unknown(name, f"{why_not}; {all_here} since the start of the machine")
    if not after:
        return unknown(name, f"nothing listens on the engine's port; {all_here}")
    had = {one.inode: one.drops for one in before}
    total = sum(one.drops for one in after)
    new = sum(one.drops - had.get(one.inode, one.drops) for one in after)
    full = [one for one in after if one.waiting > one.backlog]
    value = f"{total} by the engine's"
    remedy = f"{TUNING}, more engine.listen_backlog, {_AGAIN}; more workers (./inv reload --workers N)"
    if new or full:
        what = f"{new} just now" if new else f"{full[0].waiting} wait, which is all that may"
        reason = f"the queue of connections is full ({what}): clients wait seconds, or are refused"
        return Check(name, Verdict.FAIL, value, "0", reason, remedy)
    if total:
        reason = "the queue of connections was full at times since the socket was opened"
        return Check(name, Verdict.WARN, value, "0", reason, remedy)
    return Check(name, Verdict.OK, value, "0")


def proxy(tally: Tally) -> Check:
    """Check whether clients, such as an nginx in front, keep their connections to the engine.

    What a proxy does with a request that failed is in its configuration alone, and is not seen from here.
    """
    value = f"{tally.open_count} open, {tally.closed_count} closed"
    limit = f"{max(_CLOSED_MANY, _CLOSED_TIMES * tally.open_count)} closed"
    if not tally.open_count and tally.closed_count <= _CLOSED_MANY:
        reason = "no client has a connection to the engine now, and in the last minute too few came to tell"
        return Check("keep_alive", Verdict.UNKNOWN, value, limit, reason)
    if tally.closed_count <= max(_CLOSED_MANY, _CLOSED_TIMES * tally.open_count):
        return Check("keep_alive", Verdict.OK, value, limit)
    [(peer, count)] = tally.peers.most_common(1)
    reason = (
        f"connections end after a request or a few, most of them ({count}) with {peer}: each leaves a socket "
        "in TIME_WAIT, and a proxy there takes a new port for each request"
    )
    remedy = f"{SALT}nginx, or in its upstream `keepalive 64;`, and in front of proxy_pass "
    remedy += '`proxy_http_version 1.1; proxy_set_header Connection "";`'
    return Check("keep_alive", Verdict.WARN, value, limit, reason, remedy)
