"""Whether a node purges itself, shown by a page: fetched through it, purged, and looked at again.

The page is purged at the node's parents first. With their copies gone, only the node itself can have had one
to drop; where pages say when they were made, the look after the purge shows whether the old one is served on.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from engine.nodes import drivers
from engine.nodes.evidence import Whose
from engine.nodes.exchange import exchange
from engine.nodes.findings import ABSENT, OK, Finding, Verdict, request_text, wrong_with
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import NodeConfig
    from engine.nodes.exchange import Exchange
    from engine.nodes.findings import Place

_SECOND_S: Final = 1.05  #: ``Date`` has whole ones
_QUERY: Final = "purgeline-look"
_LEFT_S: Final = 10  #: for which a page must be fresh, so that its end is not taken for a purge
_MAX_AGE: Final = re.compile(r"\b(?:s-maxage|max-age)\s*=\s*\"?(\d+)", re.IGNORECASE)


async def purge_above(above: Sequence[Place], url: str, timeout_s: float) -> Finding | None:
    """Purge a URL at the parents of a node; return why nothing can be looked at when one refuses."""
    for each in above:
        purge = request_text(each.config, Operation.PURGE_URL, url)
        status = (await exchange(each.address, purge, timeout_s=timeout_s)).status
        if status != OK and status not in ABSENT:
            why = f"its parent {each.config.name} answered {status}, so that nothing could be looked at"
            return Finding(Verdict.UNPROVEN, why)
    return None


async def look(place: Place, above: Sequence[Place], url: str, timeout_s: float) -> Finding:
    """Fetch a page, purge it at the parents and at the node, and look what the node has then.

    Where the answer to the purge is all that tells, the page gets a query of its own: visitors of a page that
    is asked for all the time would fill a parent again, and its answer would be taken for the node's.
    """
    node = place.config
    if _tells_by_page(node):
        url = f"{url}{'&' if '?' in url else '?'}{_QUERY}={secrets.token_hex(8)}"
    fetch = request_text(node, Operation.PREFETCH, url)
    page = await exchange(place.address, fetch, timeout_s=timeout_s)
    if page.status != OK:
        return Finding(
            Verdict.UNPROVEN, f"answered {page.status} to {url}, so that nothing could be looked at"
        )
    if not _tells_by_page(node):
        await asyncio.sleep(_SECOND_S)
        again = await exchange(place.address, fetch, timeout_s=timeout_s)
        if again.field("Date") != page.field("Date") or not _stays(again):
            why = f"does not cache {url} for {_LEFT_S} s more: name a page that it does with --url"
            return Finding(Verdict.UNPROVEN, why)
    if (refused := await purge_above(above, url, timeout_s)) is not None:
        return refused
    purge = request_text(node, Operation.PURGE_URL, url)
    answer = await exchange(place.address, purge, timeout_s=timeout_s)
    whose = drivers.whose(node, Operation.PURGE_URL, url, answer.text)
    if (wrong := wrong_with(node, whose, answer)) is not None:
        return wrong
    if _tells_by_page(node):
        return _had_it(node, url, answer)
    after = await exchange(place.address, fetch, timeout_s=timeout_s)
    if after.field("Date") == page.field("Date"):
        return Finding(Verdict.UNPROVEN, f"answered {answer.status} to a purge of {url}, and serves it on")
    return Finding(Verdict.PROVEN, f"no longer serves what it had of {url}")


def _tells_by_page(node: NodeConfig) -> bool:
    """Tell whether the page of a purge shows that there was something to drop: pages have no own date."""
    return node.driver == "nginx"


def _stays(page: Exchange) -> bool:
    """Tell whether a page is fresh for a while, as far as it says so itself."""
    max_age = _MAX_AGE.search(page.field("Cache-Control"))
    age = page.field("Age")
    return max_age is None or int(max_age[1]) - (int(age) if age.isdecimal() else 0) >= _LEFT_S


def _had_it(node: NodeConfig, url: str, answer: Exchange) -> Finding:
    alone = msgspec.structs.replace(node, parents=[])
    is_own = drivers.whose(alone, Operation.PURGE_URL, url, answer.text) is Whose.OWN
    if answer.status == OK and is_own:
        return Finding(Verdict.PROVEN, f"had {url}, and dropped it")
    why = f"answered {answer.status} to a purge of {url}, just fetched: not cached, or not its own answer"
    return Finding(Verdict.UNPROVEN, why)
