"""What an inspection of a node comes to, and what is wrong with the answer to a purge."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes import drivers
from engine.nodes.drivers.common import BAD_REQUEST, REFUSALS, TOO_LONG
from engine.nodes.drivers.shape import MARK, NONCE
from engine.nodes.evidence import Whose

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.exchange import Exchange
    from engine.tasks.words import Operation

OK: Final = 200
ABSENT: Final = frozenset({404, 412})
_SERVER_ERRORS: Final = range(500, 600)
_MISDIRECTED: Final = 421  #: the guard of the templates


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


def request_text(node: NodeConfig, operation: Operation, target: str, nonce: str = "") -> str:
    """Return the text of one request, with a nonce that a marked cache repeats."""
    text = drivers.requester(node, operation)(target)
    return text.removesuffix("\r\n") + f"{NONCE}: {nonce}\r\n\r\n" if nonce else text


def wrong_with(node: NodeConfig, whose: Whose, answer: Exchange) -> Finding | None:
    """Return what is wrong with the answer to a purge, if anything is."""
    status = answer.status
    if whose is Whose.FORWARDED:
        mark = answer.field(MARK)
        why = (
            f"the answer ({status}) bears the mark {mark!r}, not that of this node"
            if mark
            else f"a server behind it gave the answer ({status}): the purge was passed on"
        )
        if status == BAD_REQUEST and not mark:
            why += f"; or it cannot take the request: {TOO_LONG}"
        return Finding(Verdict.FORWARDED, why)
    if status == _MISDIRECTED:
        return Finding(Verdict.REFUSED, "answered 421: a proxy on the way added Via, X-Varnish or the like")
    if status in REFUSALS:
        return Finding(
            Verdict.REFUSED, f"answered {status}: it does not let {node.purge_method} in from here"
        )
    if status in _SERVER_ERRORS:
        return Finding(Verdict.SICK, f"answered {status} to a purge")
    if status != OK and status not in ABSENT:
        return Finding(Verdict.UNPROVEN, f"answered {status} to a purge")
    return None
