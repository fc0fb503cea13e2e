"""Whether a node does the purges that it answers: asked once, for an operator who sets a cache up.

A purge of a URL that nobody has comes first. When its answer does not tell who gave it, a page can: see
`looking`.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from engine.errors import WireError
from engine.nodes import drivers
from engine.nodes.address import address_of
from engine.nodes.canary_look import look_at_canary
from engine.nodes.drivers.shape import MARK, NONCE
from engine.nodes.evidence import Whose
from engine.nodes.exchange import exchange
from engine.nodes.findings import Finding, Place, Verdict, request_text, wrong_with
from engine.nodes.looking import look
from engine.tasks.words import Operation, Outcome, host_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from engine.config.tables import Config, NodeConfig
    from engine.nodes.canary import Canary
    from engine.nodes.exchange import Exchange

_NOT_FOUND: Final = 404
_NO_RULE: Final = (
    "has no rule for the hosts that it was asked about, which tells nothing of those that it has; name a "
    "page of one with --url"
)
_UNTOLD: Final = (
    "nothing in its answer shows that the cache itself gave it; with --url a page that it caches can show it"
)
_AT_ONCE: Final = 32
_HOSTS_MAX: Final = 16  #: of the configured ones


async def inspect_all(config: Config, nodes: Sequence[NodeConfig], *, url: str) -> list[Finding]:
    """Ask these nodes of a configuration, `_AT_ONCE` at a time; see `inspect`.

    Raises:
        OSError: the CA file of a node cannot be read or holds no certificate.
    """
    places = {node.name: Place(node, address_of(node)) for node in config.node}
    timeout_s = config.engine.request_timeout_s
    free = asyncio.Semaphore(_AT_ONCE)
    hosts = [site.host for site in config.site if "*" not in site.host][:_HOSTS_MAX]

    async def ask(node: NodeConfig) -> Finding:
        place, above = places[node.name], _above(node, places)
        async with free:
            return await inspect(place, above, url=url, hosts=hosts, timeout_s=timeout_s)

    return await asyncio.gather(*map(ask, nodes))


def places_above(config: Config, name: str) -> list[Place]:
    """Return the parents of a node and their parents, those next to the origin first.

    Raises:
        OSError: the CA file of one of them cannot be read or holds no certificate.
    """
    places = {node.name: Place(node, address_of(node)) for node in config.node}
    return _above(places[name].config, places)


def _above(node: NodeConfig, places: dict[str, Place]) -> list[Place]:
    found: dict[str, Place] = {}
    for name in node.parents or ():
        found |= {place.config.name: place for place in _above(places[name].config, places)}
        if not drivers.is_engine(places[name].config):  # which is no cache that could be looked through
            found[name] = places[name]
    return list(found.values())


async def inspect(
    place: Place, above: Sequence[Place], *, url: str, timeout_s: float, hosts: Sequence[str] = ()
) -> Finding:
    """Ask a node whether it purges itself.

    Args:
        place: the node.
        above: its parents and their parents, those next to the origin first.
        url: of a page that the node caches, to be purged where a look is needed; empty: there is none.
        timeout_s: seconds for each request, connecting included.
        hosts: that the node may serve.
    """
    finding = await _told(_inspect(place, above, url, hosts, timeout_s), timeout_s)
    if place.config.evidence == "any" and finding.verdict in {Verdict.UNPROVEN, Verdict.FORWARDED}:
        return Finding(Verdict.TRUSTED, f'evidence = "any", and {finding.why}')
    return finding


async def prove(
    place: Place, above: Sequence[Place], *, url: str, timeout_s: float, canary: Canary | None = None
) -> Finding:
    """Show whether a node does the purges of a page's host itself; see `inspect`.

    A canary of that host is tried first, where there are any (`canary_look`), and the page where its host has
    none (`looking`).
    """
    return await _told(_prove(place, above, url, timeout_s, canary), timeout_s)


async def _prove(
    place: Place, above: Sequence[Place], url: str, timeout_s: float, canary: Canary | None
) -> Finding:
    if canary is not None and canary.key:
        finding = await look_at_canary(place, above, canary, host_of(url), timeout_s=timeout_s)
        if finding is not None:
            return finding
    return await look(place, above, url, timeout_s)


async def _told(asking: Coroutine[Any, Any, Finding], timeout_s: float) -> Finding:
    try:
        return await asking
    except TimeoutError:
        return Finding(Verdict.UNREACHABLE, f"gave no answer within {timeout_s:g} s")
    except (OSError, ValueError, WireError) as exc:
        return Finding(Verdict.UNREACHABLE, f"cannot be reached: {exc}")


async def _inspect(
    place: Place, above: Sequence[Place], url: str, hosts: Sequence[str], timeout_s: float
) -> Finding:
    """Purge what nobody has, of no host and of served ones; look at a page where that does not tell.

    One host may be purged and another one passed on. A cache that has no rule for a host says so itself, also
    one that passes the purges of other hosts on.
    """
    probe = drivers.PROBE_TARGET
    served = dict.fromkeys([urlsplit(url).netloc, *hosts] if url else hosts)
    untold: Finding | None = None
    proven: Finding | None = None
    for target in (probe, *(f"http://{host}{urlsplit(probe).path}" for host in served)):
        finding = await _ask(place, target, timeout_s)
        if finding is None:
            continue
        if target != probe:
            finding = finding._replace(why=f"{host_of(target)}: {finding.why}")
        if finding.verdict is Verdict.PROVEN:
            proven = proven or finding
        elif finding.verdict is Verdict.UNPROVEN:
            untold = untold or finding
        else:
            return finding
    if untold is not None:
        return await look(place, above, url, timeout_s) if url else untold
    return proven or Finding(Verdict.UNPROVEN, _NO_RULE)


async def _ask(place: Place, target: str, timeout_s: float) -> Finding | None:
    """Purge what nobody has; return None when the cache has no rule for the host of *target*."""
    node, nonce = place.config, secrets.token_hex(8)
    request = request_text(node, Operation.PURGE_URL, target, nonce)
    answer = await exchange(place.address, request, timeout_s=timeout_s)
    if answer.status == _NOT_FOUND and _has_no_rule(node, answer):
        return None
    whose = drivers.whose(node, Operation.PURGE_URL, target, answer.text)
    finding = wrong_with(node, whose, answer) or _own(node, whose, answer, nonce)
    if finding.verdict is Verdict.PROVEN and not answer.field(MARK):
        return await _unless_piped(finding, place, target, timeout_s)
    return finding


def _has_no_rule(node: NodeConfig, answer: Exchange) -> bool:
    outcome = drivers.read(node, Operation.PURGE_URL, answer.status, answer.body_bytes)
    is_own = drivers.whose(node, Operation.PURGE_URL, drivers.PROBE_TARGET, answer.text) is Whose.OWN
    return is_own and outcome is Outcome.REFUSED


def _own(node: NodeConfig, whose: Whose, answer: Exchange, nonce: str) -> Finding:
    """Return the finding on an answer that nobody is known to have forwarded."""
    if whose is Whose.UNTOLD:
        return Finding(Verdict.UNPROVEN, _UNTOLD)
    if not answer.field(MARK):
        return Finding(Verdict.PROVEN, f"its answer has the shape that {node.driver} gives its own")
    if answer.field(NONCE) != nonce:
        why = f"its answer bears its mark, but does not repeat {NONCE}: it may be a stored one"
        return Finding(Verdict.UNPROVEN, why)
    return Finding(Verdict.PROVEN, "its answer bears its mark, and repeats what was sent with the purge")


async def _unless_piped(finding: Finding, place: Place, target: str, timeout_s: float) -> Finding:
    """Tell whether a Varnish behind a Varnish answers: it is not told that the connection is to end."""
    request = drivers.end_text(place.config, target)
    if not request:
        return finding
    answer = await exchange(place.address, request, timeout_s=timeout_s)
    if not drivers.is_piped(answer.text):
        return finding
    return Finding(Verdict.FORWARDED, "a Varnish behind it gave the answer: the purge was piped")
