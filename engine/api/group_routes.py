"""The route by which caches report what their origins have invalidated (RFC 9875)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_response
from engine.api.group_purges import GroupPurges, Invalidated
from engine.api.route import Route
from engine.base.futures import settle_once
from engine.base.turns import SLICE_S
from engine.errors import RequestError
from engine.intake import cache_groups
from engine.intake.client import Client
from engine.intake.problems import Problem
from engine.intake.urls import normalise_authority
from engine.tasks.records import By

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp import web

    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.intake.admission import Admission
    from engine.intake.auth import Token
    from engine.intake.replies import Reply
    from engine.observe.counters import Stats

DOOR: Final = "groups"  #: what `By.door` of their tasks says
REPORTS_MAX: Final = 1000  #: of one request
_ACCEPTED: Final = 202
_SUCCESSES: Final = range(200, 400)
_SHOWN_CHARS: Final = 40


class GroupReport(msgspec.Struct, forbid_unknown_fields=True):
    """One answer of an origin."""

    host: Annotated[str, Meta(description="of the request, as the cache has it")]
    method: Annotated[str, Meta(description="of the request")]
    status: Annotated[int, Meta(description="of the answer")]
    groups: Annotated[str, Meta(description="value of its `Cache-Group-Invalidation`")]
    id: Annotated[
        str, Meta(max_length=128, description="of the answer: the same again is answered with the same task")
    ] = ""


class GroupReports(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/group-reports``."""

    reports: Annotated[list[GroupReport], Meta(max_length=REPORTS_MAX)]


class GroupOutcome(msgspec.Struct, omit_defaults=True):
    """What became of one report."""

    task_id: Annotated[str | UnsetType, Meta(description="of the task that purges its groups")] = UNSET
    ignored: Annotated[
        str | UnsetType,
        Meta(description="why it purges nothing; beside a task, which groups that leaves out"),
    ] = UNSET
    problem: Annotated[Problem | UnsetType, Meta(description="why its task is not saved")] = UNSET


class GroupOutcomes(msgspec.Struct):
    """In the order of the reports."""

    reports: list[GroupOutcome]


class _Saved(msgspec.Struct):
    """The answer of the intake to a task that it has saved."""

    task_id: str


_decode = msgspec.json.Decoder(GroupReports).decode
_decode_saved = msgspec.json.Decoder(_Saved).decode
_decode_problem = msgspec.json.Decoder(Problem).decode


class GroupRoutes:
    """Handler of ``POST /v1/engine/group-reports``.

    Args:
        callers: tell who reports.
        bodies: reads what they report.
        admission: takes the tasks.
        stats: counts reports.
    """

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/group-reports",
            "report",
            "submit",
            text="purge the cache groups (RFC 9875) that origins have invalidated in answers to unsafe "
            "requests, at every node that can purge by key: what the Varnish lines of `render` log and "
            "`purgeline report-groups` reads, see docs/groups.md. Answered in the order of the reports, "
            "when the tasks are saved; of one host there is one task a second at most",
            takes=GroupReports,
            answers={200: GroupOutcomes},
        ),
    )

    def __init__(self, callers: Callers, bodies: Bodies, admission: Admission, stats: Stats) -> None:
        self._callers = callers
        self._bodies = bodies
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._purges = GroupPurges(admission, self._loop)

    async def report(self, request: web.Request) -> web.Response:
        """Purge what is reported."""
        try:
            asked = _decode(await self._bodies.read(request))
        except msgspec.ValidationError as exc:
            raise RequestError(422, f"body: {exc}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise RequestError(400, f"body: takes JSON ({exc})") from exc
        token, by = self._callers.client(request)[:2]
        client = Client(token, By(by.token, by.address, DOOR))
        until = self._loop.time() + SLICE_S
        outcomes = []
        for report in asked.reports:
            outcomes.append(self._begin(report, client))
            if self._loop.time() > until:
                await asyncio.sleep(0)  # long fields take long, and others ask too
                until = self._loop.time() + SLICE_S
        return json_response(GroupOutcomes([await outcome for outcome in outcomes]))

    def _begin(self, report: GroupReport, client: Client) -> Awaitable[GroupOutcome]:
        """Have a report purged; return what will become of it."""
        self._stats.group_reports += 1
        future: asyncio.Future[GroupOutcome] = self._loop.create_future()
        try:
            invalidated, left_out = _read(report, client.token)
        except RequestError as exc:
            self._stats.group_reports_ignored += 1
            future.set_result(GroupOutcome(ignored=str(exc)))
            return future

        def answer(reply: Reply) -> None:
            settle_once(future, _outcome(reply, left_out))

        self._stats.group_reports_repeated += self._purges.purge(invalidated, client, answer)
        return future


def _read(report: GroupReport, token: Token) -> tuple[Invalidated, str]:
    """Return what a report asks for, and of which of its groups nothing can be purged; empty: of none.

    Raises:
        RequestError: it purges nothing; the text says why.
    """
    if not cache_groups.is_unsafe(report.method):
        raise RequestError(422, f"method: {report.method} is a safe one, which invalidates nothing")
    if report.status not in _SUCCESSES:
        raise RequestError(422, f"status: {report.status} is no success, which invalidates nothing")
    host = normalise_authority(report.host, "host")
    if not token.hosts.allows(host):
        raise RequestError(422, f"host: {host!r} is outside the sites that may be purged")
    keys = {group: cache_groups.key_of(group) for group in cache_groups.groups_of(report.groups) if group}
    if not keys:
        raise RequestError(422, f"{cache_groups.FIELD}: names no group")
    left_out = [group[:_SHOWN_CHARS] for group, key in keys.items() if not key]
    why = f"longer than {cache_groups.KEY_MAX_CHARS} characters: {', '.join(left_out)}" if left_out else ""
    if len(left_out) == len(keys):
        raise RequestError(422, f"{cache_groups.FIELD}: {why}")
    return Invalidated(host, [key for key in keys.values() if key], report.id), why


def _outcome(reply: Reply, left_out: str) -> GroupOutcome:
    if reply.status != _ACCEPTED:
        return GroupOutcome(problem=_decode_problem(reply.body))
    return GroupOutcome(_decode_saved(reply.body).task_id, left_out or UNSET)
