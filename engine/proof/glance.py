"""What a visitor is served by each node at this moment, beside what the origin has.

A look can fill a cache. Where the cache can be asked for what it has alone, it is (``only-if-cached``, RFC
9111, section 5.2.1.7): ATS and Squid answer 504 then, seen on real ones. Varnish and nginx fetch what they do
not have.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from engine.errors import StoreError
from engine.nodes.origin_guard import rule_for
from engine.proof.comparison import Verdict, compare
from engine.proof.truth import GuardedError, look_through
from engine.proof.visitor import VisitError, visit_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import NodeConfig, SiteConfig
    from engine.nodes.origin_guard import OriginGuards
    from engine.proof.comparison import Judgement
    from engine.proof.seen import Seen
    from engine.proof.truth import Origins
    from engine.proof.visitor import Visitor

ANSWERS_ALONE: Final = frozenset({"ats", "squid"})
"""Drivers whose cache says that it has nothing, instead of fetching it."""
_ONLY_IF_CACHED: Final = {"Cache-Control": "only-if-cached"}
_NOT_CACHED: Final = 504
_PACKED: Final = ("", "gzip")  #: what a page that differs by Accept-Encoding is asked for with, besides
_HIT: Final = re.compile(r"\bhit\b", re.IGNORECASE)
_MISS: Final = re.compile(r"\b(miss|expired|bypass|fwd)\b", re.IGNORECASE)
_TWO_IDS: Final = re.compile(r"\d+ \d+")
_TOGETHER_MAX: Final = 16  #: nodes that are looked at at once
PAUSE_MAX_S: Final = 2.0  #: for which a look waits for the end of a pause of the origin


@dataclass
class Served:
    """One answer: what a visitor gets who accepts *encoding*."""

    encoding: str
    seen: Seen
    judgement: Judgement | None  #: beside the origin's; None: there is nothing to compare with


@dataclass
class Glance:
    """What one node serves."""

    node: NodeConfig
    answers: list[Served] = field(default_factory=list)
    error: str = ""  #: why there is no answer
    is_held: bool = False  #: it was not asked: the guard of the origin lets nothing through, see `error`
    has_none: bool = False  #: it said that it has nothing cached
    filled: bool = False  #: it had nothing, and has what this look had it fetch
    at: float = 0.0  #: UNIX time

    def of(self, verdict: Verdict) -> list[Served]:
        """Return the answers of which the comparison came to *verdict*."""
        return [one for one in self.answers if one.judgement and one.judgement.verdict is verdict]

    @property
    def shown(self) -> Served | None:
        """The answer that tells most: one that is stale, else the first."""
        return next(iter(self.of(Verdict.STALE) or self.answers), None)


@dataclass
class Truth:
    """What the origin has, by encoding; or why nobody knows."""

    answers: dict[str, Seen] = field(default_factory=dict)
    error: str = ""

    @property
    def shown(self) -> Seen | None:
        """The first answer."""
        return next(iter(self.answers.values()), None)


class Glances:
    """Looks at configured nodes, and nothing else.

    Args:
        nodes: of the configuration, in the order of their layers.
        sites: theirs say what visitors ask with.
        visitor: asks.
        origins: have the truth.
        guards: of the origins; a look may be fetched through.
    """

    def __init__(
        self,
        nodes: Sequence[NodeConfig],
        sites: Sequence[SiteConfig],
        *,
        visitor: Visitor,
        origins: Origins,
        guards: OriginGuards,
    ) -> None:
        self._nodes = nodes
        self._encodings = {site.host: site.accept_encoding for site in sites}
        self._visitor = visitor
        self._origins = origins
        self._guards = guards

    async def look(self, url: str) -> tuple[list[Glance], Truth]:
        """Look at all nodes, a layer after the other, and at the origin.

        What an edge fetches through its parent must not fill that before it is looked at.

        Args:
            url: in stored form.
        """
        rule = rule_for(url.split("/", 3)[2], tuple(self._encodings))
        encodings = [""] if rule is None else list(self._encodings[rule])
        turns = asyncio.Semaphore(_TOGETHER_MAX)
        truth = Truth()
        glances: list[Glance] = []
        for _, nodes in itertools.groupby(self._nodes, lambda node: node.layer):
            looks = [self._glance(node, url, encodings, truth, turns) for node in nodes]
            glances += await asyncio.gather(*looks)
        return glances, truth

    async def _glance(
        self, node: NodeConfig, url: str, encodings: list[str], truth: Truth, turns: asyncio.Semaphore
    ) -> Glance:
        glance = Glance(node, at=time.time())
        asked: set[str] = set()
        async with turns:
            try:
                wanted = list(encodings)
                while wanted:
                    encoding = wanted.pop(0)
                    asked.add(encoding)
                    seen = await self._visit(node, url, encoding)
                    if seen.status == _NOT_CACHED and node.driver in ANSWERS_ALONE:
                        glance.has_none = not glance.answers
                        continue
                    glance.filled = glance.filled or hit_of(seen, node.driver) is False
                    glance.answers.append(
                        Served(encoding, seen, await self._compare(url, seen, encoding, truth))
                    )
                    if "accept-encoding" in seen.field("vary").lower():
                        wanted += [one for one in _PACKED if one not in asked and one not in wanted]
            except GuardedError as exc:
                glance.error, glance.is_held = str(exc), True
            except (VisitError, OSError) as exc:
                glance.error = str(exc)
        if glance.answers:
            glance.has_none = False
        return glance

    async def _visit(self, node: NodeConfig, url: str, encoding: str) -> Seen:
        alone = node.driver in ANSWERS_ALONE
        visit = partial(
            self._visitor.visit,
            visit_address(node),
            url,
            accept_encoding=encoding,
            headers=_ONLY_IF_CACHED if alone else None,
        )
        return await (visit() if alone else look_through(self._guards, url, visit, pause_max_s=PAUSE_MAX_S))

    async def _compare(self, url: str, seen: Seen, encoding: str, truth: Truth) -> Judgement | None:
        """Compare with the origin, which is asked again before a difference counts.

        An origin that gave no answer is not asked for the next node: that would take as long again.
        """
        if not self._origins.has(url.split("/", 3)[2]) or (truth.error and encoding not in truth.answers):
            return None
        try:
            has = truth.answers[encoding] = await self._origins.read(
                url, encoding, since=time.monotonic() - 1
            )
            judged = compare(seen, has)
            if judged.verdict is Verdict.STALE:
                has = truth.answers[encoding] = await self._origins.read(
                    url, encoding, since=time.monotonic()
                )
                judged = compare(seen, has)
        except (VisitError, StoreError) as exc:
            truth.error = str(exc)
            return None
        return judged


def hit_of(seen: Seen, driver: str) -> bool | None:
    """Return whether an answer came out of the cache that gave it, as that says; None: it does not say."""
    for name in ("cache-status", "x-cache-status", "x-cache"):
        nearest = seen.field(name).rpartition(",")[2]
        if nearest:
            return True if _HIT.search(nearest) else False if _MISS.search(nearest) else None
    if driver == "varnish" and (
        ids := seen.field("x-varnish").rpartition(",")[2].strip()
    ):  # a parent's before
        return _TWO_IDS.fullmatch(ids) is not None
    return None
