"""Whether a node is purged by the purges that it answers: asked once, for an operator who sets a cache up.

A purge of a URL that nobody has comes first. When its answer does not tell who gave it, a page can: it is
fetched through the node, purged at the node's parents and then at the node, and looked at again. With the
parents' copies gone, only the node itself can have had one to drop.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from engine.errors import WireError
from engine.nodes import drivers
from engine.nodes.address import address_of
from engine.nodes.drivers.common import REFUSALS
from engine.nodes.drivers.shape import MARK, NONCE
from engine.nodes.evidence import Whose
from engine.nodes.exchange import exchange
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import Config, NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.exchange import Exchange

_TARGET: Final = "http://purgeline-probe.invalid/.purgeline-probe"
_SERVER_ERRORS: Final = range(500, 600)
_OK: Final = 200
_NOT_FOUND: Final = 404
_MISDIRECTED: Final = 421  #: the guard of the templates
_ABSENT: Final = frozenset({_NOT_FOUND, 412})
_UNTOLD: Final = (
    "nothing in its answer shows that the cache itself gave it; with --url a page that it caches can show it"
)
_AT_ONCE: Final = 32
_SECOND_S: Final = 1.05  #: ``Date`` has whole ones


class Verdict(enum.StrEnum):
    """What an inspection came to."""

    PROVEN = "proven"
    TRUSTED = "trusted"  #: not proven, and the configuration says that this is not asked for
    FORWARDED = "forwarded"  #: a server behind the node answers its purges
    UNPROVEN = "unproven"
    REFUSED = "refused"
    SICK = "sick"
    UNREACHABLE = "unreachable"


class Finding(NamedTuple):
    """The verdict on one node, and in one sentence why."""

    verdict: Verdict
    why: str


class Place(NamedTuple):
    """A node, and where it listens."""

    config: NodeConfig
    address: Address


async def inspect_all(config: Config, nodes: Sequence[NodeConfig], *, url: str) -> list[Finding]:
    """Ask these nodes of a configuration, `_AT_ONCE` at a time; see `inspect`.

    Raises:
        OSError: the CA file of a node cannot be read or holds no certificate.
    """
    places = {node.name: Place(node, address_of(node)) for node in config.node}
    timeout_s = config.engine.request_timeout_s
    free = asyncio.Semaphore(_AT_ONCE)

    async def ask(node: NodeConfig) -> Finding:
        async with free:
            return await inspect(places[node.name], _above(node, places), url=url, timeout_s=timeout_s)

    return await asyncio.gather(*map(ask, nodes))


def _above(node: NodeConfig, places: dict[str, Place]) -> list[Place]:
    """Return the parents of a node and their parents, those next to the origin first."""
    found: dict[str, Place] = {}
    for name in node.parents or ():
        found |= {place.config.name: place for place in _above(places[name].config, places)}
        found[name] = places[name]
    return list(found.values())


async def inspect(place: Place, above: Sequence[Place], *, url: str, timeout_s: float) -> Finding:
    """Ask a node whether it purges itself.

    Args:
        place: the node.
        above: its parents and their parents, those next to the origin first.
        url: of a page that the node caches, to be purged where a look is needed; empty: there is none.
        timeout_s: seconds for each request, connecting included.
    """
    try:
        finding = await _ask(place, timeout_s)
        if finding is None:
            finding = await _look(place, above, url, timeout_s) if url else Finding(Verdict.UNPROVEN, _UNTOLD)
    except TimeoutError:
        return Finding(Verdict.UNREACHABLE, f"gave no answer within {timeout_s:g} s")
    except (OSError, ValueError, WireError) as exc:
        return Finding(Verdict.UNREACHABLE, f"cannot be reached: {exc}")
    return finding


def _request(node: NodeConfig, operation: Operation, target: str, nonce: str = "") -> str:
    text = drivers.requester(node, operation)(target)
    return text.removesuffix("\r\n") + f"{NONCE}: {nonce}\r\n\r\n" if nonce else text


async def _ask(place: Place, timeout_s: float) -> Finding | None:
    """Purge what nobody has; return None when the answer does not tell who gave it."""
    node, nonce = place.config, secrets.token_hex(8)
    answer = await exchange(
        place.address, _request(node, Operation.PURGE_URL, _TARGET, nonce), timeout_s=timeout_s
    )
    whose = drivers.whose(node, Operation.PURGE_URL, _TARGET, answer.text)
    if (wrong := _wrong(node, whose, answer)) is not None:
        return wrong
    if whose is Whose.UNTOLD:
        return None
    if not answer.field(MARK):
        if node.driver == "varnish" and await _is_piped(place, timeout_s):
            return Finding(Verdict.FORWARDED, "a Varnish behind it gave the answer: the purge was piped")
        return Finding(Verdict.PROVEN, f"its answer has the shape that {node.driver} gives its own")
    if answer.field(NONCE) != nonce:
        why = f"its answer bears its mark, but does not repeat {NONCE}: it may be a stored one"
        return Finding(Verdict.UNPROVEN, why)
    return Finding(Verdict.PROVEN, "its answer bears its mark, and repeats what was sent with the purge")


async def _is_piped(place: Place, timeout_s: float) -> bool:
    """Tell whether a Varnish behind a Varnish answers: it is not told that the connection is to end."""
    text = _request(place.config, Operation.PURGE_URL, _TARGET).removesuffix("\r\n")
    answer = await exchange(place.address, f"{text}Connection: close\r\n\r\n", timeout_s=timeout_s)
    return answer.field("Connection").lower() != "close"


def _wrong(node: NodeConfig, whose: Whose, answer: Exchange) -> Finding | None:
    """Return what is wrong with the answer to a purge, if anything is."""
    status = answer.status
    if whose is Whose.FORWARDED:
        mark = answer.field(MARK)
        why = (
            f"the answer ({status}) bears the mark {mark!r}, not that of this node"
            if mark
            else f"a server behind it gave the answer ({status}): the purge was passed on"
        )
        return Finding(Verdict.FORWARDED, why)
    if status == _MISDIRECTED:
        return Finding(Verdict.REFUSED, "answered 421: a proxy on the way added Via, X-Varnish or the like")
    if status in REFUSALS:
        return Finding(
            Verdict.REFUSED, f"answered {status}: it does not let {node.purge_method} in from here"
        )
    if status in _SERVER_ERRORS:
        return Finding(Verdict.SICK, f"answered {status} to a purge")
    if status != _OK and status not in _ABSENT:
        return Finding(Verdict.UNPROVEN, f"answered {status} to a purge")
    return None


async def _look(place: Place, above: Sequence[Place], url: str, timeout_s: float) -> Finding:
    """Fetch a page, purge it at the parents and at the node, and look what the node has then."""
    node = place.config
    fetch = _request(node, Operation.PREFETCH, url)
    page = await exchange(place.address, fetch, timeout_s=timeout_s)
    if page.status != _OK:
        return Finding(
            Verdict.UNPROVEN, f"answered {page.status} to {url}, so that nothing could be looked at"
        )
    if not _tells_by_page(node):
        await asyncio.sleep(_SECOND_S)
        again = await exchange(place.address, fetch, timeout_s=timeout_s)
        if again.field("Date") != page.field("Date"):
            return Finding(Verdict.UNPROVEN, f"does not cache {url}: name a page that it does with --url")
    for each in above:
        purge = _request(each.config, Operation.PURGE_URL, url)
        status = (await exchange(each.address, purge, timeout_s=timeout_s)).status
        if status != _OK and status not in _ABSENT:
            why = f"its parent {each.config.name} answered {status}, so that nothing could be looked at"
            return Finding(Verdict.UNPROVEN, why)
    purge = _request(node, Operation.PURGE_URL, url)
    answer = await exchange(place.address, purge, timeout_s=timeout_s)
    whose = drivers.whose(node, Operation.PURGE_URL, url, answer.text)
    if (wrong := _wrong(node, whose, answer)) is not None:
        return wrong
    if _tells_by_page(node):
        return _had_it(node, url, answer)
    look = await exchange(place.address, fetch, timeout_s=timeout_s)
    if look.field("Date") == page.field("Date"):
        return Finding(Verdict.UNPROVEN, f"answered {answer.status} to a purge of {url}, and serves it on")
    return Finding(Verdict.PROVEN, f"no longer serves what it had of {url}")


def _tells_by_page(node: NodeConfig) -> bool:
    """Tell whether the page of a purge shows that there was something to drop; its own pages have no age."""
    return node.driver == "nginx"


def _had_it(node: NodeConfig, url: str, answer: Exchange) -> Finding:
    alone = msgspec.structs.replace(node, parents=[])
    is_own = drivers.whose(alone, Operation.PURGE_URL, url, answer.text) is Whose.OWN
    if answer.status == _OK and is_own:
        return Finding(Verdict.PROVEN, f"had {url}, and dropped it")
    why = f"answered {answer.status} to a purge of {url}, just fetched: not cached, or not its own answer"
    return Finding(Verdict.UNPROVEN, why)
