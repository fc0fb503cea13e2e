"""Whether a node purges itself, shown by a canary on the host that is to be proven; see `looking`.

A canary tells for every driver, of a host whose pages nobody has to purge for it, and whatever its pages say
of themselves. With the copies of the parents gone, a node that no longer has the old value has dropped it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from engine.nodes import drivers
from engine.nodes.address import visit_address_of
from engine.nodes.canary import visit
from engine.nodes.exchange import exchange
from engine.nodes.findings import Finding, Verdict, request_text, wrong_with
from engine.nodes.looking import purge_above
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.canary import Canary
    from engine.nodes.findings import Place


async def look_at_canary(
    place: Place, above: Sequence[Place], canary: Canary, host: str, *, timeout_s: float
) -> Finding | None:
    """Fill a node with a canary of *host*, purge it at the parents and at the node, and look again.

    Returns:
        The verdict; None: no canary of that host is kept there, so that a page must show it.

    Raises:
        TimeoutError, OSError, WireError: a purge was not answered; see `exchange`.
    """
    node, url = place.config, canary.url(f"{secrets.token_hex(8)}-look", host)
    entrance = visit_address_of(node) if node.visit_url else place.address
    old, new = canary.mint(), canary.mint()
    for value in (old, new):
        seen = await visit(entrance, canary, url, value, timeout_s=timeout_s)
        if seen.value != old:
            return None
    if (refused := await purge_above(above, url, timeout_s)) is not None:
        return refused
    purge = request_text(node, Operation.PURGE_URL, url)
    answer = await exchange(place.address, purge, timeout_s=timeout_s)
    wrong = wrong_with(node, drivers.whose(node, Operation.PURGE_URL, url, answer.text), answer)
    if wrong is not None:
        return wrong
    seen = await visit(entrance, canary, url, new, timeout_s=timeout_s)
    if seen.value == new:
        return Finding(Verdict.PROVEN, f"no longer serves the canary that it had of {host}")
    if seen.value == old:
        return Finding(
            Verdict.UNPROVEN, f"answered {answer.status} to a purge of its canary of {host}, and serves it on"
        )
    return Finding(Verdict.UNPROVEN, f"{seen.why}, after its purge")
