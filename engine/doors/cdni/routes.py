"""The resources of a CDNI door: collections of triggers, and triggers (RFC 8007, sections 3 to 6)."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from engine.api.answers import response_of
from engine.api.bodies import leave_to_bodies
from engine.doors.cdni.command import read_command
from engine.doors.cdni.creating import RefusedError, at_once
from engine.doors.cdni.media import (
    COLLECTION,
    STATUS,
    check_accept,
    check_content_type,
    is_named,
    media_type,
    tag_of,
)
from engine.doors.cdni.records import ID
from engine.doors.cdni.telling import collection, status_resource
from engine.errors import RequestError
from engine.tasks.triggers import SETTLED, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api.bodies import Bodies
    from engine.config.doors import CdniDoorConfig
    from engine.config.tables import Scope
    from engine.doors.cdni.access import CdniCallers
    from engine.doors.cdni.planning import Rules
    from engine.doors.cdni.triggers import Triggers
    from engine.intake.client import Client

BASE: Final = "/triggers"
COLLECTIONS: Final = {
    "pending": frozenset({Status.PENDING}),
    "active": frozenset({Status.ACTIVE, Status.CANCELLING}),
    "complete": frozenset({Status.COMPLETE, Status.PROCESSED}),
    "failed": frozenset({Status.FAILED, Status.CANCELLED}),
}
_POLL_S: Final = 2  #: clients of what goes on are told to ask again after so long
_SETTLED_POLL_S: Final = 60
_QUICK_BYTES: Final = 64 * 1024  #: of a body that is read without a thread
_QUICK_IDS: Final = 1000  #: of a collection that is told without a thread
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ID: Final = re.compile(rf"{BASE}/({ID.pattern})(?:[?#].*)?$")


class CdniRoutes:
    """Handlers of one door.

    Args:
        config: of the door.
        callers: tell who asks.
        bodies: read what is posted.
        triggers: do what is asked for.
        rules_of: whose hosts are whose, for the token of a name.
    """

    def __init__(
        self,
        config: CdniDoorConfig,
        callers: CdniCallers,
        bodies: Bodies,
        triggers: Triggers,
        rules_of: Callable[[str], Rules],
    ) -> None:
        self._config = config
        self._callers = callers
        self._bodies = bodies
        self._triggers = triggers
        self._rules_of = rules_of

    def app(self, body_max_bytes: int) -> web.Application:
        """Return the application with all of them; longer bodies are refused."""
        app = web.Application(client_max_size=body_max_bytes)
        add = app.router.add_route
        add("POST", BASE, self.command, expect_handler=leave_to_bodies)
        for path in (BASE, *(f"{BASE}/{name}" for name in COLLECTIONS)):
            add("GET", path, self.collection)
            add("HEAD", path, self.collection)
        add("GET", f"{BASE}/{{id}}", self.trigger)
        add("HEAD", f"{BASE}/{{id}}", self.trigger)
        add("DELETE", f"{BASE}/{{id}}", self.delete)
        return app

    async def command(self, request: web.Request) -> web.Response:
        """Take a CI/T Command: create a trigger, or cancel some."""
        client = self._client(request, "submit")
        check_content_type(request.headers.get("Content-Type"))
        await self._check_match(request, client)
        body = await self._bodies.read_any(request)
        read = self._triggers.records.read if len(body) > _QUICK_BYTES else at_once
        command = await read(read_command, body, self._config.cdn_id)
        if command.trigger is None:
            ids = [_id_of(url, place) for place, url in enumerate(command.cancel)]
            is_over = await self._triggers.ending.cancel(ids, client.by)
            return web.Response(status=200 if is_over else 202)
        check_accept(_accept(request), STATUS)
        rules = self._rules_of(client.token.name)
        try:
            record = await self._triggers.creating.create(command, client, rules)
        except RefusedError as exc:
            return response_of(exc.reply)
        text = status_resource(record)
        headers = {"Location": f"{self._base(request)}/{record.id}", "ETag": tag_of(text)}
        return web.Response(status=201, body=text, headers={"Content-Type": media_type(STATUS), **headers})

    async def collection(self, request: web.Request) -> web.Response:
        """Show the collection of all of a client's triggers, or one of those with some status."""
        client = self._client(request, "read")
        check_accept(_accept(request), COLLECTION)
        text, tag = await self._collection(request, client, request.path.removeprefix(BASE).strip("/"))
        return _conditional(request, text, COLLECTION, _POLL_S, tag=tag)

    async def _collection(self, request: web.Request, client: Client, name: str) -> tuple[bytes, str]:
        """Return a collection and its entity-tag; a thread makes one of many triggers."""
        ids = await self._triggers.records.listed(client.token.name, COLLECTIONS.get(name))
        links = {"coll-all": BASE} if name else {f"coll-{one}": f"{BASE}/{one}" for one in COLLECTIONS}
        cdn_id = "" if name else self._config.cdn_id
        read = self._triggers.records.read if len(ids) > _QUICK_IDS else at_once
        made: tuple[bytes, str] = await read(
            _tagged, self._base(request), ids, self._config.stale_resource_s, links, cdn_id
        )
        return made

    async def trigger(self, request: web.Request) -> web.Response:
        """Show a trigger."""
        client = self._client(request, "read")
        check_accept(_accept(request), STATUS)
        record = await self._triggers.records.find(client.token.name, request.match_info["id"])
        poll_s = _SETTLED_POLL_S if record.status in SETTLED else _POLL_S
        text = status_resource(record)
        return _conditional(request, text, STATUS, poll_s, tag=tag_of(text))

    async def delete(self, request: web.Request) -> web.Response:
        """Cancel a trigger, and forget it."""
        client = self._client(request, "submit")
        trigger_id = request.match_info["id"]
        if "If-Match" in request.headers:
            record = await self._triggers.records.find(client.token.name, trigger_id)
            _check_tag(request, tag_of(status_resource(record)))
        await self._triggers.ending.remove(trigger_id, client.by)
        return web.Response(status=204)

    async def _check_match(self, request: web.Request, client: Client) -> None:
        """Refuse a command for a collection that the client knows otherwise."""
        if "If-Match" in request.headers:
            _, tag = await self._collection(request, client, "")
            _check_tag(request, tag)

    def _client(self, request: web.Request, scope: Scope) -> Client:
        return self._callers.client_with(request, scope)

    def _base(self, request: web.Request) -> str:
        """Return the URL of the collection of all triggers, as the client can reach it."""
        if self._config.url:
            return self._config.url.rstrip("/") + BASE
        scheme = "https" if self._config.cert_file else "http"
        host = request.headers.get("Host", "")
        return f"{scheme}://{host if _AUTHORITY.fullmatch(host) else self._config.listen}{BASE}"


def _tagged(*about: Any) -> tuple[bytes, str]:
    """Return a collection, see `collection`, and its entity-tag."""
    text = collection(*about)
    return text, tag_of(text)


def _accept(request: web.Request) -> str:
    return ",".join(request.headers.getall("Accept", ()))


def _id_of(url: str, place: int) -> str:
    match = _ID.search(url)
    if match is None:
        shown = f"cancel[{place}]"
        raise RequestError(404, f"{shown}: {url[:80]!r} is the URL of no trigger", field=shown)
    return match[1]


def _check_tag(request: web.Request, tag: str) -> None:
    if not is_named(",".join(request.headers.getall("If-Match")), tag):
        raise RequestError(412, f"if-match: it is {tag} by now")


def _conditional(request: web.Request, text: bytes, payload: str, poll_s: int, *, tag: str) -> web.Response:
    """Return 200 with a body, or 304 to a client that has it.

    Raises:
        RequestError: 412, the client wants another one.
    """
    if "If-Match" in request.headers:
        _check_tag(request, tag)
    headers = {
        "Content-Type": media_type(payload),
        "ETag": tag,
        "Cache-Control": f"private, max-age={poll_s}",
        "Expires": formatdate(time.time() + poll_s, usegmt=True),
    }
    if is_named(",".join(request.headers.getall("If-None-Match", ())), tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text, headers=headers)
