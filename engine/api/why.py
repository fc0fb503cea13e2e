"""``GET /v1/engine/why``: what every node serves now, beside the origin, and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_response
from engine.api.below import NONE_BELOW
from engine.api.overview import shown_state
from engine.api.route import QUERY, TOKEN, Route
from engine.api.why_answer import WhyAnswer, WhyNode
from engine.api.why_below import WhyRegion, why_below
from engine.errors import RequestError
from engine.intake.urls import normalise_url
from engine.nodes import drivers
from engine.proof.conclusions import NodeState, conclude
from engine.proof.covering import Purge, covering, purge_of
from engine.proof.glance import ANSWERS_ALONE, PAUSE_MAX_S, Glances, hit_of
from engine.proof.truth import Origins
from engine.proof.visitor import Visitor
from engine.proof.whole import Conclusion, whole_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from engine.api.below import Below
    from engine.api.find import FindTask
    from engine.api.history import HistoryRoutes
    from engine.api.listing import ListTasks
    from engine.config.tables import Config
    from engine.intake.auth import Token
    from engine.nodes.node import Node
    from engine.nodes.origin_guard import OriginGuards
    from engine.proof.glance import Glance, Served, Truth
    from engine.proof.seen import Seen
    from engine.proof.whole import Told

_TOGETHER_MAX: Final = 4  #: questions at a time; others wait
_VISIT_S: Final = 5.0  #: of one visit, whatever trickles in
_PURGES_SHOWN: Final = 10
_PREFETCH: Final = "prefetch"
_PAGE: Final = 500
_PAGES_MAX: Final = 8
_CAN_FILL: Final = (
    "a look is a visit: these nodes fetch what they do not have, and keep it; ATS and Squid are asked for "
    "what they have alone (only-if-cached)"
)


class WhyQuery(msgspec.Struct):
    """``GET /v1/engine/why``."""

    url: Annotated[str, Meta(description="the page; its host must be one that the token may purge")]
    tasks: Annotated[
        str | UnsetType,
        Meta(description="only purges of these tasks count, by commas: an engine above asks for a client"),
    ] = UNSET


class WhyOrigin(msgspec.Struct):
    """What the origin has."""

    answers: list[WhyAnswer]
    error: Annotated[str, Meta(description="why nobody knows; empty: it answered")]


class Why(msgspec.Struct):
    """Why visitors get what they get."""

    url: str
    origin: Annotated[WhyOrigin | None, Meta(description="null: the host has no `[[origin]]`")]
    nodes: Annotated[list[WhyNode], Meta(description="leaves of nodes that are engines, too: `eu/edge-7`")]
    purges: Annotated[
        list[Purge],
        Meta(
            description="that cover it, newest first",
            extra_json_schema={"maxItems": _PURGES_SHOWN},
        ),
    ]
    conclusion: Conclusion
    sentence: str
    can_fill: Annotated[list[str], Meta(description="nodes that this look may have filled")]
    note: str
    incomplete: Annotated[
        str | UnsetType,
        Meta(description="why purges may be missing: the history is incomplete, or there are too many"),
    ] = UNSET
    regions: Annotated[list[WhyRegion] | UnsetType, Meta(description="what such engines said")] = UNSET


class WhyRoutes:
    """Handlers.

    Args:
        config: its nodes and origins are asked, and nothing else.
        nodes: name → node.
        guards: of the origins.
        find: has the documents of tasks.
        listing: has those of all stored tasks, where no history is kept.
        history: knows which tasks cover a page.
        below: asks nodes that are engines.
    """

    routes: Final = (
        Route(
            "GET",
            "/v1/engine/why",
            "why",
            "read",
            WhyQuery,
            text="what every node serves of a URL now, beside the origin's own answer, the last purges that "
            "cover it, and one sentence that says why; see docs/why.md",
            answers={200: Why},
            errors={429: "the token is over its rate; `Retry-After`"},
        ),
    )

    def __init__(
        self,
        config: Config,
        nodes: Mapping[str, Node],
        guards: OriginGuards,
        *,
        find: FindTask,
        listing: ListTasks,
        history: HistoryRoutes,
        below: Below = NONE_BELOW,
    ) -> None:
        layers = [layer.name for layer in config.layer] or ["edge"]
        own = [node for node in config.node if not drivers.is_engine(node)]
        self._configured = sorted(own, key=lambda node: layers.index(node.layer))
        self._below = below
        self._config = config
        self._nodes = nodes
        self._find = find
        self._listing = listing
        self._history = history
        self._guards = guards
        self._turns = asyncio.Semaphore(_TOGETHER_MAX)

    async def why(self, request: web.Request) -> web.Response:
        """Look, and conclude."""
        asked: WhyQuery = request[QUERY]
        token = request[TOKEN]
        url, host = normalise_url(asked.url, "url")
        if not token.hosts.allows(host):
            detail = f"url: host {host!r} is outside the sites that may be purged"
            raise RequestError(422, detail, field="url")
        if url.endswith("?") and url.count("?") == 1:
            raise RequestError(
                422, "url: ends in an empty query, for which no node can be asked", field="url"
            )
        token.take()
        async with self._turns:
            return json_response(await self._answer(url, host, token, request))

    async def _answer(self, url: str, host: str, token: Token, request: web.Request) -> Why:
        purges, incomplete = await self._purges(url, token)
        if (only := request[QUERY].tasks) is not UNSET:
            purges = _only(purges, only.split(","))
        visitor = Visitor(body_max_bytes=self._config.proof.body_max_bytes, timeout_s=_VISIT_S)
        try:
            origins = Origins(self._config.origin, self._guards, visitor, pause_max_s=PAUSE_MAX_S)
            glances = Glances(
                self._configured, self._config.site, visitor=visitor, origins=origins, guards=self._guards
            )
            tasks = None if token.sees_only is None else [purge.task_id for purge in purges]
            (seen, truth), below = await asyncio.gather(
                glances.look(url), why_below(self._below, url, request, tasks=tasks, by=token.name)
            )
        finally:
            await visitor.close()
        states = {node.name: _state_of(self._nodes[node.name], host) for node in self._configured}
        told, _ = conclude(url, seen, truth, purges, states, incomplete=incomplete)
        whole = whole_of([*told.values(), *below.told])
        nodes = [_node(glance, states[glance.node.name].state, told[glance.node.name]) for glance in seen]
        fill = [node.name for node in self._configured if node.driver not in ANSWERS_ALONE]
        return Why(
            url=url,
            origin=_origin(truth) if origins.has(host) else None,
            nodes=[*nodes, *below.nodes],
            purges=purges[:_PURGES_SHOWN],
            conclusion=whole.conclusion,
            sentence=whole.sentence,
            can_fill=[*fill, *below.can_fill],
            note=_CAN_FILL,
            incomplete=incomplete or UNSET,
            regions=list(below.regions) or UNSET,
        )

    async def _purges(self, url: str, token: Token) -> tuple[list[Purge], str]:
        """Return the purges that cover a URL, newest first, of the tasks that the client may see.

        With them why others may be missing; an empty text: none are.
        """
        known = await self._history.purges_of(url, _PURGES_SHOWN, token)
        if known is None:
            return await self._listed_purges(url, token)
        tasks, incomplete = known
        found = []
        for task in tasks:
            outcomes = {one.name: one.outcome for one in task.nodes if one.operation != _PREFETCH}
            try:
                document = await self._find.document(task.task_id, token)
            except RequestError:  # its document has gone; the history is kept for longer
                continue
            found.append(purge_of(document, task.matched or "", is_sure=task.sure, outcomes=outcomes))
        if gone := len(tasks) - len(found):
            incomplete = incomplete or f"the documents of {gone} are gone after retention_days"
        return found, incomplete

    async def _listed_purges(self, url: str, token: Token) -> tuple[list[Purge], str]:
        """Return those among the newest tasks, as far as their documents tell; and as `_purges`."""
        found: list[Purge] = []
        cursor, missing = "", set[int]()
        for _ in range(_PAGES_MAX):
            documents, cursor = await self._listing.page(None, cursor, _PAGE, token, missing)
            found += covering(documents, url)
            if not cursor:
                break
        incomplete = f"only the newest {_PAGE * _PAGES_MAX} tasks were" if cursor else ""
        if missing:
            incomplete = f"the tasks of regions {', '.join(map(str, sorted(missing)))} cannot be read"
        return sorted(found, key=lambda purge: purge.created_at, reverse=True), incomplete


def _only(purges: list[Purge], tasks: list[str]) -> list[Purge]:
    """Return the purges that are of these tasks; parts of one, and what it fetches, have its id in front."""
    return [
        purge
        for purge in purges
        if any(task and (purge.task_id == task or purge.task_id.startswith(f"{task}.")) for task in tasks)
    ]


def _state_of(node: Node, host: str) -> NodeState:
    state, reason, _ = shown_state(node)
    refuses = [
        hold.reason for (_, held), hold in node.holds.pairs.items() if held == host and hold.is_refused
    ]
    return NodeState(state, reason, refuses[0] if refuses else "")


def _origin(truth: Truth) -> WhyOrigin:
    answers = [_answer_of(seen, encoding, "", None) for encoding, seen in truth.answers.items()]
    return WhyOrigin(answers, truth.error)


def _node(glance: Glance, state: str, told: Told) -> WhyNode:
    shown = glance.shown
    answers = sorted(glance.answers, key=lambda one: one is not shown)
    return WhyNode(
        name=glance.node.name,
        layer=glance.node.layer,
        driver=glance.node.driver,
        state=state,
        conclusion=told.conclusion,
        sentence=told.sentence,
        answers=[_answer_of(one.seen, one.encoding, glance.node.driver, one) for one in answers],
        error=glance.error,
        filled=glance.filled,
        open=told.is_open,
    )


def _answer_of(seen: Seen, encoding: str, driver: str, served: Served | None) -> WhyAnswer:
    judgement = served.judgement if served is not None else None
    return WhyAnswer(
        encoding=encoding,
        status=seen.status,
        age_s=seen.age_s,
        etag=seen.etag or None,
        last_modified=seen.last_modified or None,
        vary=seen.field("vary") or None,
        cache_status=seen.cache_status or None,
        hit=hit_of(seen, driver) if driver else None,
        bytes=seen.body_bytes,
        digest=seen.digest or None,
        verdict=judgement.verdict.value if judgement else None,
        rule=judgement.rule.value if judgement else None,
    )
