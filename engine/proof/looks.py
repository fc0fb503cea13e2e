"""What a visitor gets at one node, and whether that is the truth: visits, and what is asked of the origin.

A difference counts only when the origin, asked again, still has what the visitor does not get: it may have
changed in between. An origin that answers differently each time leaves it open.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes import drivers
from engine.nodes.origin_guard import rule_for
from engine.proof.comparison import (
    FROZEN_AGE,
    Judgement,
    Rule,
    Verdict,
    compare,
    judge_by_time,
    stored_before,
)
from engine.proof.truth import GuardedError, look_at, look_through
from engine.proof.visitor import VisitError, visit_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine.config.tables import NodeConfig, SiteConfig
    from engine.nodes.address import Address
    from engine.nodes.origin_guard import OriginGuards
    from engine.observe.counters import Stats
    from engine.proof.seen import Seen
    from engine.proof.truth import Origins
    from engine.proof.visitor import Visitor

_FAILURES_MAX: Final = 3
_RETRY_S: Final = 0.3  #: and longer each time
_BY_TIME_MAX: Final = 2  #: looks, a second apart: an ``Age`` has whole seconds
_BY_AGE_S: Final = 1.01
"""From the ack to the first of these: what it fills the cache with has the age 0, and is younger than the ack
for certain. An earlier look would fill the cache, too, and a cache whose clock has whole seconds (ATS, Squid)
would count nearly always one more at each look after."""
_NO_SITE: Final = ("",)


class Ask(NamedTuple):
    """What is to be looked at; times are `time.monotonic`'s."""

    node: str  #: its name
    url: str  #: in stored form
    encoding: str  #: what visitors accept; empty: they do not say
    since: float  #: an answer of the origin that was asked for later will do
    acked_at: float  #: when the node had acked, at the latest
    charge: Callable[[], None]  #: told of each visit after the first


class Look(NamedTuple):
    """What a look came to, and the answer that it was decided by."""

    judgement: Judgement
    digest: str = ""  #: SHA-256 of what the visitor got; empty: nobody knows


class Looks:
    """Looks at nodes.

    Args:
        nodes: of the configuration.
        sites: theirs say what visitors ask with.
        visitor: asks.
        origins: have the truth.
        guards: of the origins; a visit may be fetched through.
        stats: counts visits.

    Raises:
        OSError: a CA file cannot be read.
    """

    def __init__(
        self,
        nodes: Sequence[NodeConfig],
        sites: Sequence[SiteConfig],
        *,
        visitor: Visitor,
        origins: Origins,
        guards: OriginGuards,
        stats: Stats,
    ) -> None:
        self._addresses: dict[str, Address] = {
            node.name: visit_address(node) for node in nodes if not drivers.is_engine(node)
        }
        self._drivers = {node.name: node.driver for node in nodes}
        self._tells: set[str] = set()  # nodes whose last answer had a Cache-Status: an Age is not waited for
        self._encodings = {site.host: tuple(site.accept_encoding) for site in sites}
        self._visitor = visitor
        self._origins = origins
        self._guards = guards
        self._stats = stats

    def has(self, node: str) -> bool:
        """Tell whether visitors come to a node: it is no engine."""
        return node in self._addresses

    def encodings(self, url: str) -> Sequence[str]:
        """Return what visitors of a URL ask with."""
        rule = rule_for(url.split("/", 3)[2], tuple(self._encodings))
        return _NO_SITE if rule is None else self._encodings[rule]

    async def look(self, ask: Ask) -> Look:
        """Return what visitors of a node get, as far as it can be told."""
        failures = 0
        while True:
            try:
                if self._origins.has(ask.url.split("/", 3)[2]):
                    return await self._compare(ask)
                return await self._time(ask)
            except VisitError as exc:
                failures += 1
                if failures == _FAILURES_MAX or isinstance(exc, GuardedError):  # it has waited for long
                    return Look(Judgement(Verdict.UNVERIFIABLE, Rule.NONE, str(exc)))
            await asyncio.sleep(_RETRY_S * failures)
            ask.charge()

    async def _compare(self, ask: Ask) -> Look:
        asked = asyncio.ensure_future(self._origins.read(ask.url, ask.encoding, since=ask.since))
        asked.add_done_callback(look_at)
        try:
            seen = await self._visit(ask)
            truth = await asked
        finally:
            asked.cancel()  # what others wait for goes on
        judged = compare(seen, truth)
        if judged.verdict is not Verdict.STALE:
            return Look(judged, seen.digest)
        again = await self._truth_now(ask)
        judged = compare(seen, again)
        if judged.verdict is Verdict.STALE and compare(truth, again).verdict is not Verdict.VERIFIED:
            ask.charge()
            seen = await self._visit(ask)
            last = await self._truth_now(ask)
            judged = compare(seen, last)
            if judged.verdict is Verdict.STALE and compare(again, last).verdict is not Verdict.VERIFIED:
                why = "the origin answers differently each time"
                judged = Judgement(Verdict.UNVERIFIABLE, Rule.NONE, why)
        if judged.verdict is Verdict.STALE:
            before = stored_before(seen, self._drivers[ask.node], seen.asked_at - ask.acked_at)
            asks = f" (Accept-Encoding: {ask.encoding})" if ask.encoding else ""
            judged = judged._replace(reason=f"{judged.reason}{before}{asks}")
        return Look(judged, seen.digest)

    async def _time(self, ask: Ask) -> Look:
        """Look until the answer is younger than the purge for certain, at the turns of the seconds."""
        driver = self._drivers[ask.node]
        turn = 0
        while True:
            if driver not in FROZEN_AGE and (turn or ask.node not in self._tells):
                await asyncio.sleep(ask.acked_at + _BY_AGE_S + turn - time.monotonic())
            seen = await self._visit(ask)
            (self._tells.add if seen.cache_status else self._tells.discard)(ask.node)
            judged = judge_by_time(seen, driver, seen.asked_at - ask.acked_at)
            turn += 1
            is_over = judged.verdict is Verdict.VERIFIED or turn == _BY_TIME_MAX
            if is_over or seen.age_s is None or driver in FROZEN_AGE:
                return Look(judged, seen.digest)
            ask.charge()

    def _truth_now(self, ask: Ask) -> Awaitable[Seen]:
        return self._origins.read(ask.url, ask.encoding, since=time.monotonic())

    async def _visit(self, ask: Ask) -> Seen:
        return await look_through(self._guards, ask.url, partial(self._visit_now, ask))

    async def _visit_now(self, ask: Ask) -> Seen:
        self._stats.visits += 1
        try:
            address = self._addresses[ask.node]
            return await self._visitor.visit(address, ask.url, accept_encoding=ask.encoding)
        except VisitError as exc:
            raise VisitError(f"a visitor of {ask.node}: {exc}") from exc
