"""What an engine answers the engine above it: takes its tasks, and tells what became of them, signed."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from aiohttp import web

from engine import _version
from engine.api.answers import reply_to
from engine.api.route import TOKEN, Lines, Route
from engine.api.schemas import Accepted
from engine.errors import RequestError
from engine.intake.client import Again
from engine.intake.problems import Problem
from engine.intake.task_body import ID, TaskBody
from engine.tasks.by_target import DOOR
from engine.tasks.document_types import TaskDocument
from engine.tree.link import NONCE
from engine.tree.pace import SLOWEST
from engine.tree.seal import NONCE_MAX
from engine.tree.sealing import check_path, is_nonce, signature_of
from engine.tree.words import (
    IDS_MAX,
    VERSION,
    WAIT_MAX_S,
    Answer,
    Cancel,
    Cancelled,
    Question,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.cancel_handed import CancelHanded
    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.tree.own_leaves import OwnLeaves
    from engine.tree.place import Place
    from engine.tree.reports import Reports

_COUNTED_S: Final = 0.25
_decode: Final = msgspec.json.Decoder(Question).decode
_decode_cancel: Final = msgspec.json.Decoder(Cancel).decode
_encode = msgspec.json.encode
_T = TypeVar("_T")


class TreeRoutes:
    """Handlers.

    Args:
        callers: tell who asks.
        bodies: read bodies.
        admission: takes the tasks.
        place: this engine's.
        cancels: cancels what was handed down.
        reports: tells what became of tasks.
        delayed: tells how many rows the delay queues have.
        leaves: tells of the nodes below.
    """

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/tree/tasks",
            "take",
            "submit",
            text='tasks that an engine above hands down (`driver = "engine"`), as `/v1/engine/tasks` takes '
            "them; the answer is signed. See docs/decisions/0022",
            takes=Lines((TaskBody,)),
            answers={200: Lines((Accepted, TaskDocument, Problem))},
            errors={409: "the tasks have been here, or came through too many engines"},
        ),
        Route(
            "POST",
            "/v1/engine/tree/ask",
            "ask",
            "read",
            text="what became of tasks that were handed down: those that have something new to tell, as soon "
            "as one has; the answer is signed",
            takes=Question,
            answers={200: Answer},
            errors={409: "as of what is handed down"},
        ),
        Route(
            "POST",
            "/v1/engine/tree/cancel",
            "cancel",
            "submit",
            text="tasks that were handed down are cancelled, with all of their parts; the answer is signed",
            takes=Cancel,
            answers={200: Cancelled},
            errors={409: "as of what is handed down"},
            name="cancel_handed_down",
        ),
    )

    def __init__(
        self,
        callers: Callers,
        bodies: Bodies,
        admission: Admission,
        *,
        place: Place,
        cancels: CancelHanded,
        reports: Reports,
        delayed: Callable[[], Awaitable[int]],
        leaves: OwnLeaves,
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._admission = admission
        self._place = place
        self._cancels = cancels
        self._reports = reports
        self._delayed = delayed
        self._leaves = leaves
        self._row_count, self._counted_at = 0, float("-inf")

    async def take(self, request: web.Request) -> web.Response:
        """Take tasks in that are handed down."""
        nonce, path = await self._head(request)
        client = self._client(request, path)
        body = await self._bodies.read_any(request, slowest=SLOWEST)
        reply = await reply_to(partial(self._admission.submit_lines, body, client))
        self._admission.stats.tree_taken += reply.body.count(b'"state":"accepted"')
        if reply.status != 200:  # noqa: PLR2004 - HTTP
            detail: Any = msgspec.json.decode(reply.body).get("detail", "")
            raise RequestError(reply.status, detail)
        return await self._signed(request, nonce, reply.body, reply.content_type)

    async def ask(self, request: web.Request) -> web.Response:
        """Tell what became of tasks."""
        nonce, _ = await self._head(request)
        asked = _read(_decode, await self._bodies.read(request))
        if len(asked.tasks) > IDS_MAX or not 0 <= asked.wait_s <= WAIT_MAX_S:
            detail = f"body: takes at most {IDS_MAX} tasks, and a wait_s of 0 to {WAIT_MAX_S:g}"
            raise RequestError(422, detail)
        found, unknown = await self._reports.new(asked.tasks, request[TOKEN], asked.wait_s)
        answer = Answer(
            VERSION,
            self._place.engine,
            _version.__version__,
            await self._rows(),
            found,
            unknown,
            [] if asked.tasks else await self._place.keys(),
            None if asked.leaves is None else await self._leaves.tell(asked.leaves),
        )
        return await self._signed(request, nonce, _encode(answer), "application/json")

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel tasks that were handed down."""
        nonce, _ = await self._head(request)
        names = _read(_decode_cancel, await self._bodies.read(request)).tasks
        if len(names) > IDS_MAX or not all(map(ID.fullmatch, names)):
            raise RequestError(422, f"tasks: takes at most {IDS_MAX} ids of tasks")
        count = await self._cancels.cancel(names, request[TOKEN])
        return await self._signed(request, nonce, _encode(Cancelled(count)), "application/json")

    async def _head(self, request: web.Request) -> tuple[str, str]:
        """Return the nonce of a request and the path of its tasks.

        Raises:
            RequestError: 409 they have been here; 422 a header is missing, or is none.
        """
        nonce = request.headers.get(NONCE, "")
        if not is_nonce(nonce):
            raise RequestError(422, f"{NONCE}: takes 1-{NONCE_MAX} letters and digits, new for each request")
        return nonce, await check_path(self._place, request, request[TOKEN])

    async def _rows(self) -> int:
        """Return how many rows the delay queues have; the other workers are not asked for each question."""
        now = time.monotonic()
        if now - self._counted_at > _COUNTED_S:
            self._counted_at = now
            self._row_count = await self._delayed()
        return self._row_count

    def _client(self, request: web.Request, path: str) -> Client:
        client = self._callers.client(request)
        by = msgspec.structs.replace(client.by, door=DOOR, path=path)
        return client._replace(by=by, again=Again())

    async def _signed(self, request: web.Request, nonce: str, body: bytes, content_type: str) -> web.Response:
        headers = await signature_of(self._place, request, nonce, body)
        return web.Response(body=body, content_type=content_type, headers=headers)


def _read(decode: Callable[[bytes], _T], body: bytes) -> _T:
    """Return a body.

    Raises:
        RequestError: 422 or 400, it is none.
    """
    try:
        return decode(body)
    except msgspec.ValidationError as exc:
        raise RequestError(422, f"body: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise RequestError(400, f"body: not JSON: {exc}") from exc
