"""Limits of the kernel: connection tracking, TIME_WAIT, ephemeral ports, and what is reused of them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from engine.doctor.check import SALT, Check, Verdict, by_share, unknown

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from engine.config.tables import EngineConfig
    from engine.doctor.reader import Reader
    from engine.doctor.sockets import Address

TUNING: Final = f"{SALT}tuning"
PORTS_DEFAULT: Final = (32768, 60999)  #: the kernel's
_WARN, _FAIL = 0.8, 0.95  #: parts of a table


def conntrack(reader: Reader) -> Check:
    """Check the table of tracked connections: when it is full, packets of new ones are dropped."""
    count = reader.number("net.netfilter.nf_conntrack_count")
    most = reader.number("net.netfilter.nf_conntrack_max")
    if count is None or most is None:
        return Check(
            "conntrack", Verdict.OK, "not loaded", "", "nf_conntrack is not loaded: there is no table to fill"
        )
    verdict = by_share(count, most, warn=_WARN, fail=_FAIL)
    reason = "when the table is full, new connections are dropped without a word to either end"
    return _table("conntrack", verdict, f"{count} tracked", most, reason)


def time_wait(reader: Reader) -> Check:
    """Check how many sockets are in TIME_WAIT, of those that the kernel keeps."""
    count, most = reader.time_wait(), reader.number("net.ipv4.tcp_max_tw_buckets")
    if count is None or most is None:
        return unknown("time_wait", "the kernel does not tell how many sockets are in TIME_WAIT")
    verdict = by_share(count, most, warn=_WARN, fail=_FAIL)
    reason = "beyond the limit TIME_WAIT is cut short: a late packet of an old connection may meet a new one"
    if verdict is Verdict.OK and (cut := reader.counters().get("TCPTimeWaitOverflow", 0)):
        verdict, reason = Verdict.WARN, f"{cut} were cut short since the start of the machine: {reason}"
    return _table("time_wait", verdict, f"{count} in TIME_WAIT", most, reason)


def _table(name: str, verdict: Verdict, value: str, limit: int, reason: str) -> Check:
    if verdict is Verdict.OK:
        return Check(name, verdict, value, str(limit))
    return Check(name, verdict, value, str(limit), reason, TUNING)


def port_range(reader: Reader) -> tuple[int, int] | None:
    """Return the first and the last of the ports that connections get here."""
    words = (reader.sysctl("net.ipv4.ip_local_port_range") or "").split()
    if len(words) != 2 or not all(map(str.isdecimal, words)):  # noqa: PLR2004 - first and last
        return None
    return int(words[0]), int(words[1])


def ports(
    ports: tuple[int, int] | None, by_destination: Counter[Address], engine: EngineConfig, workers: int
) -> Check:
    """Check the ephemeral ports: each connection to the same address and port takes one."""
    if ports is None:
        return unknown("ports", "the kernel does not tell which ports connections get")
    count = ports[1] - ports[0] + 1
    needed = workers * (engine.connections_per_node + engine.prefetch_concurrency + 1)
    [(address, used)] = by_destination.most_common(1) or [(("", 0), 0)]
    value = f"{used} to {address[0]}:{address[1]}" if used else "0 in use"
    verdict = by_share(used, count, warn=_WARN, fail=_FAIL)
    reason = "when all ports to one destination are taken, no further connection to it can be made"
    if verdict is not Verdict.FAIL and count < needed:
        verdict = Verdict.FAIL
        reason = f"the engine opens up to {needed} connections to one cache, each with a port of its own"
    return _table("ports", verdict, value, count, reason)


def tw_reuse(reader: Reader, urls: Iterable[str]) -> Check:
    """Check whether a port in TIME_WAIT may be taken again for a new connection.

    Args:
        reader: of the kernel's files.
        urls: of the nodes: the kernel's default, 2, is for loopback alone.
    """
    value = reader.sysctl("net.ipv4.tcp_tw_reuse")
    if value is None:
        return unknown("tw_reuse", "the kernel has no net.ipv4.tcp_tw_reuse", limit="1")
    if reader.sysctl("net.ipv4.tcp_timestamps") == "0":
        reason = "without time stamps (net.ipv4.tcp_timestamps = 0) no port in TIME_WAIT is taken again"
        return Check("tw_reuse", Verdict.WARN, value, "1", reason, TUNING)
    if value == "1" or (value == "2" and all(map(_is_loopback, urls))):
        return Check("tw_reuse", Verdict.OK, value, "1")
    where = " but on loopback" if value == "2" else ""
    reason = f"a port in TIME_WAIT is kept for a minute and not taken again{where}"
    return Check("tw_reuse", Verdict.WARN, value, "1", reason, TUNING)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
