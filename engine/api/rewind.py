"""Rewinding a node: what was purged between two times goes to it once more, oldest first, at a rate.

A rewind is tasks for that node alone that are stored at once and begin one after the other (``start_at``):
so it survives restarts, its subtasks wait in the delay queue while the node is away, and new purges go beside
it. What went to another node of its layer counts too, as the node may have been out of the configuration.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_response, reply_to, response_of
from engine.api.below import NONE_BELOW
from engine.api.passing_on import UNTOLD, pass_on
from engine.api.query import Time, seconds
from engine.api.retry import error_of
from engine.api.rewind_parts import bodies, sendable, too_many
from engine.api.route import QUERY, Route
from engine.api.schemas import RewindStopped, Rewound
from engine.config.hints import did_you_mean
from engine.errors import EngineError, RequestError
from engine.history.missed import COLLECTED_MAX, TARGETS_MAX, Missed, slices
from engine.history.question import read_host
from engine.history.recall import Window
from engine.intake.auth import Token
from engine.intake.client import Again
from engine.intake.replies import Reply
from engine.intake.task_body import START_MAX_S
from engine.tasks.words import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp import web

    from engine.api.below import Below
    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.cancel import CancelTask
    from engine.api.recalling import Recalling
    from engine.api.rewinding import Claim, Rewinding
    from engine.config.tables import NodeConfig
    from engine.history.missed import Slice
    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.observe.audit import Audit
    from engine.saver.reader import StoreReader

_REWIND: Final = "/v1/engine/rewind"
RATE_PER_S: Final = 1000.0
_SLICE_S: Final = 0.2
_SLICES_MAX: Final = 500
_AT_A_TIME: Final = 16  #: tasks that are being stored
_ACCEPTED: Final = 202
_CONFLICT: Final = 409


class RewindBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/rewind``: what is sent to which node once more."""

    node: Annotated[str, Meta(description="its name")]
    since: Annotated[Time, Meta(description="what was purged then, or later")]
    until: Annotated[
        Time | UnsetType, Meta(description="what was purged then, or before; without it: until now")
    ] = UNSET
    host: Annotated[str, Meta(description="only targets of it")] = ""
    rate_per_s: Annotated[float, Meta(ge=0.01, le=1e6, description="targets a second")] = RATE_PER_S


class StopQuery(msgspec.Struct):
    """``DELETE /v1/engine/rewind``."""

    node: Annotated[str, Meta(description="whose rewind is stopped")]


_decode_body = msgspec.json.Decoder(RewindBody).decode


class RewindRoutes:
    """Handles ``/v1/engine/rewind``.

    Args:
        callers: tell who asks.
        bodies: reads what they ask for.
        recalling: tells what was purged.
        reader: its threads put that in order.
        admission: takes the tasks in.
        cancel: takes them back, when one of them is refused.
        nodes: the configured ones, by name.
        lacks: tells why a node cannot purge by a kind, a host pattern; empty: it can.
        rewinding: knows which nodes are being rewound.
        audit: told of each rewind.
        below: rewinds leaves.
    """

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/rewind",
            "rewind",
            "admin",
            text="send what was purged between two times to one node once more, see docs/retry.md; "
            "scope `admin`",
            takes=RewindBody,
            answers={202: Rewound},
            errors={
                502: UNTOLD,
                404: "the node is not configured; or the engine keeps no history",
                409: "the node is being rewound",
            },
        ),
        Route(
            "DELETE",
            "/v1/engine/rewind",
            "stop",
            "admin",
            StopQuery,
            text="stop the rewind of a node: what its tasks have not sent is cancelled; of what waits in the "
            "delay queue already nothing is; scope `admin`",
            answers={200: RewindStopped},
            errors={
                404: "the node is not being rewound",
                409: "the rewind is still being stored",
                502: UNTOLD,
            },
        ),
    )

    def __init__(
        self,
        callers: Callers,
        bodies: Bodies,
        recalling: Recalling,
        reader: StoreReader,
        admission: Admission,
        *,
        cancel: CancelTask,
        nodes: Mapping[str, NodeConfig],
        lacks: Callable[[str, str, bool], str],
        rewinding: Rewinding,
        audit: Audit,
        below: Below = NONE_BELOW,
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._recalling = recalling
        self._reader = reader
        self._admission = admission
        self._cancel = cancel
        self._nodes = nodes
        self._lacks = lacks
        self._rewinding = rewinding
        self._audit = audit
        self._below = below
        self._beginning: set[str] = set()  # nodes of which a rewind is being stored

    async def rewind(self, request: web.Request) -> web.Response:
        """Begin a rewind; its answer says what is sent, and when the last of it begins."""
        asked = _asked(await self._bodies.read(request))
        passed = await pass_on(self._below, asked.node, request, "POST", _REWIND, body=asked)
        if passed is not None:
            return response_of(Reply(_ACCEPTED, msgspec.json.encode(passed)))
        client = self._callers.client(request)
        window = self._window(asked)
        await self._refuse_second(asked.node)
        self._beginning.add(asked.node)
        try:
            rewound = await asyncio.shield(self._claim_and_begin(asked, window, client))
        finally:
            self._beginning.discard(asked.node)
        self._audit.rewound(asked.node, client.by, rewound.targets, rewound.rewind)
        return response_of(Reply(_ACCEPTED, msgspec.json.encode(rewound)))

    def _window(self, asked: RewindBody) -> Window:
        node = self._nodes.get(asked.node)
        if node is None:
            detail = f"{asked.node!r} is not configured: takes the name of a node of this engine"
            raise RequestError(404, detail, hint=partial(did_you_mean, asked.node, list(self._nodes)))
        until = time.time() if asked.until is UNSET else seconds(asked.until)
        since = seconds(asked.since)
        if since > until:
            raise RequestError(422, "since: takes a time before until, and before now", field="since")
        host = read_host(asked.host) if asked.host else ""
        return Window(node.name, node.layer, since, until, host)

    async def _refuse_second(self, node: str) -> None:
        rewind = await self._rewinding.of(node)
        if rewind is not None or node in self._beginning:
            raise _being_rewound(node, "" if rewind is None else rewind.name)

    async def _claim_and_begin(self, asked: RewindBody, window: Window, client: Client) -> Rewound:
        claim = self._rewinding.claim_of(asked.node)
        other = await claim.make()
        if other:
            raise _being_rewound(asked.node, other)
        sent: dict[str, int] = {}
        try:
            rewound = await self._begin(claim, asked, window, client, sent)
        finally:
            await claim.begun(sent)
        return rewound

    async def _begin(
        self, claim: Claim, asked: RewindBody, window: Window, client: Client, sent: dict[str, int]
    ) -> Rewound:
        """Have the tasks stored, and put their ids into *sent*: id → targets."""
        missed = Missed()
        incomplete = ""
        lacks = {(kind.value, of): self._lacks(asked.node, kind, of) for kind in Kind for of in (False, True)}
        async for page in self._recalling.purges(window):
            await self._reader.read(missed.add, page.purges)
            incomplete = incomplete or page.missing
            await claim.keep()
            if len(missed) > COLLECTED_MAX:
                await self._go_by_host(missed, lacks)
        keys, left_out = await self._reader.read(sendable, missed, lacks, client.token.hosts.allows)
        if len(keys) > TARGETS_MAX:
            await self._go_by_host(missed, lacks)
            keys, left_out = await self._reader.read(sendable, missed, lacks, client.token.hosts.allows)
        if len(keys) > TARGETS_MAX:
            raise too_many(len(keys))
        last_s = len(keys) / asked.rate_per_s
        if last_s > START_MAX_S:
            detail = (
                f"rate_per_s: {len(keys)} targets would take {last_s / 86400:.0f} days; takes a higher rate"
            )
            raise RequestError(422, detail, field="rate_per_s")
        split = partial(slices, keys, asked.rate_per_s, slice_s=_SLICE_S, slices_max=_SLICES_MAX)
        parts = await self._reader.read(split)
        await self._hand_in(asked.node, claim, parts, client, sent)
        last_at = time.time() + (parts[-1].after_s if parts else 0.0)
        return Rewound(
            claim.name,
            asked.node,
            missed.purges,
            len(keys),
            list(sent),
            round(last_at, 3),
            left_out,
            incomplete or UNSET,
        )

    async def _go_by_host(self, missed: Missed, lacks: Mapping[tuple[str, bool], str]) -> None:
        """Purge hosts in place of too many targets.

        Raises:
            RequestError: 422, the node cannot do that, or it does not help.
        """
        count = len(missed)
        if lacks[Kind.HOST.value, False] or missed.is_by_host:
            raise too_many(count)
        await self._reader.read(missed.go_by_host)

    async def _hand_in(
        self, node: str, claim: Claim, parts: Sequence[Slice], client: Client, sent: dict[str, int]
    ) -> None:
        """Have the tasks stored, and put their ids into *sent*. When one of them is refused, none is left."""
        token = client.token
        unlimited = Token(token.name, token.scopes, token.hosts, is_limited=token.is_limited)
        own = client._replace(token=unlimited, again=Again(rewind=claim.name))
        try:
            await self._store_all(node, claim, parts, own, sent)
        except EngineError:
            ids = list(sent)
            sent.clear()
            await self._take_back(ids, unlimited)
            raise

    async def _store_all(
        self, node: str, claim: Claim, parts: Sequence[Slice], own: Client, sent: dict[str, int]
    ) -> None:
        began = time.time()
        for place in range(0, len(parts), _AT_A_TIME):
            tasks = [task for part in parts[place : place + _AT_A_TIME] for task in bodies(node, part, began)]
            replies = await asyncio.gather(
                *(reply_to(partial(self._admission.submit, task.body, own)) for task in tasks)
            )
            for task, reply in zip(tasks, replies, strict=True):
                if reply.status == _ACCEPTED:
                    sent[msgspec.json.decode(reply.body)["task_id"]] = task.targets
            refused = next((reply for reply in replies if reply.status != _ACCEPTED), None)
            if refused is not None:
                raise error_of(refused)
            await claim.keep()

    async def stop(self, request: web.Request) -> web.Response:
        """Cancel what a rewind has not sent, whichever worker or engine has it."""
        node = request[QUERY].node
        passed = await pass_on(self._below, node, request, "DELETE", f"{_REWIND}?node={{leaf}}")
        if passed is not None:
            return json_response(passed)
        client = self._callers.client(request)
        rewind = await self._rewinding.of(node)
        if rewind is None and node not in self._beginning:
            raise RequestError(404, f"{node!r} is not being rewound")
        if rewind is None or not rewind.tasks:
            raise RequestError(409, f"the rewind of {node!r} is still being stored: stop it in a moment")
        stopped: list[str] = []
        errors: list[EngineError] = []
        for place in range(0, len(rewind.tasks), _AT_A_TIME):
            ids = rewind.tasks[place : place + _AT_A_TIME]
            for task_id, error in zip(
                ids, await asyncio.gather(*(self._cancelled(one, client.token) for one in ids)), strict=True
            ):
                if error is None:
                    stopped.append(task_id)
                elif not isinstance(error, RequestError) or error.status != _CONFLICT:  # that one is over
                    errors.append(error)
        if errors:
            raise errors[0]
        self._audit.rewind_stopped(node, client.by, len(stopped), rewind.name)
        return json_response(RewindStopped(rewind.name, node, stopped))

    async def _cancelled(self, task_id: str, token: Token) -> EngineError | None:
        """Cancel a task; return why it cannot be, None: it was."""
        try:
            await self._cancel.cancel(task_id, token)
        except EngineError as exc:
            return exc
        return None

    async def _take_back(self, ids: Sequence[str], token: Token) -> None:
        for task_id in ids:
            try:
                await self._cancel.cancel(task_id, token)
            except EngineError:  # it has been sent, which does no harm
                continue


def _being_rewound(node: str, name: str) -> RequestError:
    what = f"by {name!r}, " if name else ""
    detail = f"{node!r} is being rewound, {what}see its state: rewind it again when that is over"
    return RequestError(_CONFLICT, detail)


def _asked(body: bytes) -> RewindBody:
    """Return what is asked for.

    Raises:
        RequestError: 400 it is no JSON, 422 it cannot be asked for.
    """
    try:
        return _decode_body(body)
    except msgspec.ValidationError as exc:
        raise RequestError(422, f"body: {exc}") from None
    except msgspec.DecodeError as exc:
        raise RequestError(400, f"body: is not valid JSON: {exc}") from None
