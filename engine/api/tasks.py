"""The task routes: hand in, find, cancel, list.

The fast lane of `engine.intake` takes ``POST`` requests that are plain; these handlers take the same requests
when they are not, and all others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engine.api.answers import json_response, reply_to, response_of
from engine.errors import RequestError
from engine.tasks.words import State

if TYPE_CHECKING:
    from aiohttp import web

    from engine.api.bodies import Bodies
    from engine.api.cancel import CancelTask
    from engine.api.find import FindTask
    from engine.api.listing import ListTasks
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth

_PAGE_MAX: Final = 1000
_PAGE: Final = 100
_DIGITS_MAX: Final = 20  #: Python refuses to read numbers of thousands of digits


class TaskRoutes:
    """Handlers of ``/v1/engine/task`` and ``/v1/engine/tasks``."""

    def __init__(
        self,
        auth: Auth,
        bodies: Bodies,
        admission: Admission,
        *,
        find: FindTask,
        cancel: CancelTask,
        listing: ListTasks,
    ) -> None:
        self._auth = auth
        self._bodies = bodies
        self._admission = admission
        self._find = find
        self._cancel = cancel
        self._listing = listing

    async def submit(self, request: web.Request) -> web.Response:
        """Take one task in."""
        token = self._auth.check(request.headers.get("Authorization"), "submit")
        body = await self._bodies.read(request)
        return response_of(await reply_to(partial(self._admission.submit, body, token)))

    async def submit_lines(self, request: web.Request) -> web.Response:
        """Take NDJSON in, a task per line."""
        token = self._auth.check(request.headers.get("Authorization"), "submit")
        body = await self._bodies.read(request)
        return response_of(await reply_to(partial(self._admission.submit_lines, body, token)))

    async def find(self, request: web.Request) -> web.Response:
        """Show a task."""
        token = self._auth.check(request.headers.get("Authorization"), "read")
        return json_response(await self._find.document(request.match_info["id"], token))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel what has no answer of a task, and show it."""
        token = self._auth.check(request.headers.get("Authorization"), "submit")
        return json_response(await self._cancel.cancel(request.match_info["id"], token))

    async def list(self, request: web.Request) -> web.Response:
        """Show a page: tasks in memory, newest first, then stored ones; a cursor asks for the next page."""
        token = self._auth.check(request.headers.get("Authorization"), "read")
        state = request.query.get("state") or None
        if state is not None and state not in State.__members__.values():
            raise RequestError(422, f"state: {state!r} is not known; takes {', '.join(State)}", field="state")
        limit = _number(request, "limit", _PAGE, _PAGE_MAX)
        missing: set[int] = set()
        asked = request.query.get("cursor", "")
        tasks, cursor = await self._listing.page(state, asked, limit, token, missing)
        page: dict[str, Any] = {"tasks": tasks, "cursor": cursor or None}
        if missing:
            page["missing_regions"] = sorted(missing)
        return json_response(page)


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > _DIGITS_MAX or not 1 <= int(text) <= most:
        raise RequestError(422, f"{name}: takes a number from 1 to {most}, not {text[:20]!r}", field=name)
    return int(text)
