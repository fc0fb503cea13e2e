"""Routes about silences of alerts: in the store, and in every worker before the answer."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_reply, json_response
from engine.api.query import Time, seconds
from engine.api.route import TOKEN, Route
from engine.errors import RequestError, StoreError
from engine.notify.matchers import matchers_of, written
from engine.tasks.records import Silence
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.delivery.silences import Silences
    from engine.intake.replies import Reply
    from engine.observe.audit import Audit
    from engine.workers.peers import Peers

SILENCE_MAX_S: Final = 30 * 86_400.0
SILENCES_MAX: Final = 1000  #: that go on at once
_OK: Final = 200
_PATH: Final = "/v1/engine/silences"


class SilenceBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/silences``: which alerts are silenced, for how long, and why."""

    matchers: Annotated[
        list[str],
        Meta(
            min_length=1,
            max_length=20,
            description="all have to match: `node=edge-1`, `kind!=node`, `key=~canary:.*`; "
            "a word alone is a key; of regular expressions, those that are quick to match",
        ),
    ]
    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S", description="for people")]
    for_s: Annotated[
        Annotated[float, Meta(gt=0, le=SILENCE_MAX_S)] | UnsetType,
        Meta(description="how long, in seconds; this or `until`"),
    ] = UNSET
    until: Annotated[Time | UnsetType, Meta(description="its end, 30 days from now at the latest")] = UNSET


class SilencedAlert(msgspec.Struct):
    """An alert that is on, and is not sent."""

    key: str
    level: str
    message: str
    since: Annotated[float, Meta(description="when it began")]


class SilenceStatus(msgspec.Struct):
    """A silence of alerts."""

    id: str
    state: Literal["active", "ended"]
    matchers: list[str]
    reason: str
    by: Annotated[str, Meta(description="the token with which it was made")]
    created_at: float
    until: Annotated[float, Meta(description="its end")]
    alerts: Annotated[list[SilencedAlert], Meta(description="that it keeps from being sent, of this engine")]


class SilencePage(msgspec.Struct):
    """Silences, the newest first."""

    silences: list[SilenceStatus]


_decode_body = msgspec.json.Decoder(SilenceBody).decode


class SilenceRoutes:
    """Handles ``/v1/engine/silences``.

    Args:
        silences: of this worker.
        shown: returns the alerts that this worker holds back; see `engine.notify.silenced.Silenced.shown`.
        bodies: reads what is asked for.
        callers: tell who asks.
        audit: told which alerts are silenced, and why.
        peers: the other workers; None: there are none.
    """

    routes: Final = (
        Route(
            "GET",
            _PATH,
            "show",
            "read",
            text="silences of alerts that go on, and those that ended within a day, each with the alerts "
            "that it keeps from being sent",
            answers={200: SilencePage},
        ),
        Route(
            "POST",
            _PATH,
            "begin",
            "admin",
            text="alerts that match are not sent for a time, see docs/alerts.md; scope `admin`",
            takes=SilenceBody,
            answers={200: SilenceStatus},
            errors={409: f"{SILENCES_MAX:,} silences go on"},
        ),
        Route(
            "DELETE",
            f"{_PATH}/{{silence}}",
            "end",
            "admin",
            text="a silence ends now: what is still on of its alerts is sent; scope `admin`",
            answers={200: SilenceStatus},
            errors={404: "it is not known"},
        ),
    )

    def __init__(
        self,
        silences: Silences,
        shown: Callable[[], list[dict[str, Any]]],
        bodies: Bodies,
        callers: Callers,
        *,
        audit: Audit,
        peers: Peers | None,
    ) -> None:
        self._silences = silences
        self._shown = shown
        self._bodies = bodies
        self._callers = callers
        self._audit = audit
        self._peers = peers

    async def show(self, _request: web.Request) -> web.Response:
        """Show the silences."""
        await self._silences.refresh()
        return json_response(SilencePage(await self._documents(self._silences.all())))

    async def begin(self, request: web.Request) -> web.Response:
        """Silence alerts."""
        asked = _asked(await self._bodies.read(request))
        by = request[TOKEN].name
        now = time.time()
        if sum(one.until > now for one in self._silences.all()) >= SILENCES_MAX:
            raise RequestError(409, f"{SILENCES_MAX:,} silences go on; end some of them first")
        matchers = [written(text) for text in asked.matchers]
        until = _end_of(asked, now)
        silence = Silence(secrets.token_hex(4), matchers, asked.reason.strip(), by, round(now, 3), until)
        try:
            document = await self._change(silence)
        except StoreError as exc:
            await self._withdraw(silence)
            raise StoreError(
                f"silence {silence.id} was not begun in every file, and is ended: {exc}"
            ) from exc
        self._audit.silenced("alerts silenced", silence, self._callers.by(request))
        return json_response(document)

    async def end(self, request: web.Request) -> web.Response:
        """End a silence; one that is over stays as it is."""
        await self._silences.refresh()
        name = request.match_info["silence"]
        known = next((one for one in self._silences.all() if one.id == name), None)
        if known is None:
            raise RequestError(404, f"{name[:80]!r} is no silence: takes the id of one, see GET {_PATH}")
        document = await self._change(msgspec.structs.replace(known, until=round(time.time(), 3)))
        self._audit.silenced("silence ended", known, self._callers.by(request))
        return json_response(document)

    async def change_here(self, request: web.Request) -> Reply:
        """Do in this worker what another was asked for: the body is the silence.

        Raises:
            StoreError: its store cannot be written.
        """
        await self._silences.change(msgspec.json.decode(await request.read(), type=Silence))
        return json_reply({})

    async def shown_here(self, _request: web.Request) -> Reply:
        """Give the alerts that this worker holds back."""
        return json_reply(self._shown())

    async def _change(self, silence: Silence) -> SilenceStatus:
        """Have every worker begin a silence, or end it; return it as it is from now on."""
        changed = await self._silences.change(silence)
        if self._peers is not None:
            path, text = worker_path("silence"), msgspec.json.encode(silence)
            if self._silences.is_shared:  # other engines do as it says
                await self._peers.ask_all(path, "PUT", text)
            else:
                for reply in await self._peers.ask_slots("PUT", path, text):
                    if reply.status != _OK:
                        why = f"it answers {reply.status}"
                        raise StoreError(
                            f"a worker of this engine could not do it, ask again in a moment: {why}"
                        )
        return (await self._documents([changed]))[0]

    async def _withdraw(self, silence: Silence) -> None:
        """Have every worker end what only some could begin, as far as each can."""
        ended = msgspec.structs.replace(silence, until=round(time.time(), 3))
        with contextlib.suppress(StoreError):
            await self._change(ended)

    async def _documents(self, silences: Sequence[Silence]) -> list[SilenceStatus]:
        """Return silences as they are shown; of each alert what one of the workers says."""
        shown = self._shown()
        if self._peers is not None and self._peers.others():
            pages = await self._peers.ask_all(worker_path("silenced"))
            shown = [one for page in pages for one in msgspec.json.decode(page)] + shown
        alerts: dict[str, dict[str, SilencedAlert]] = defaultdict(dict)
        for one in shown:
            alerts[one["silence"]][one["key"]] = msgspec.convert(one, SilencedAlert)
        return [
            SilenceStatus(
                silence.id,
                "active" if silence.until > time.time() else "ended",
                silence.matchers,
                silence.reason,
                silence.by,
                silence.at,
                silence.until,
                list(alerts[silence.id].values()),
            )
            for silence in silences
        ]


def _asked(body: bytes) -> SilenceBody:
    """Return what is asked for.

    Raises:
        RequestError: 400 it is no JSON, 422 it cannot be asked for.
    """
    try:
        asked = _decode_body(body)
    except msgspec.ValidationError as exc:
        raise RequestError(422, f"body: {exc}") from None
    except msgspec.DecodeError as exc:
        raise RequestError(400, f"body: is not valid JSON: {exc}") from None
    try:
        matchers_of(asked.matchers)
    except ValueError as exc:
        raise RequestError(422, f"matchers: {exc}", field="matchers") from None
    return asked


def _end_of(asked: SilenceBody, now: float) -> float:
    """Return when a silence ends, UNIX time.

    Raises:
        RequestError: 422, it has no end, or none that may be asked for.
    """
    if (asked.for_s is UNSET) == (asked.until is UNSET):
        raise RequestError(
            422, "for_s: takes how long it lasts, or until its end: one of the two", field="for_s"
        )
    until = now + asked.for_s if not isinstance(asked.for_s, UnsetType) else 0.0
    if not isinstance(asked.until, UnsetType):
        until = seconds(asked.until)
        if not now < until <= now + SILENCE_MAX_S:
            raise RequestError(422, "until: takes a time from now on, 30 days at the most", field="until")
    return round(until, 3)
