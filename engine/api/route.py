"""A route as it declares itself: what it takes, who may ask, and what it answers.

The application serves what is declared, so nothing is served that ``GET /openapi.json`` and docs/http.md do
not tell of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from aiohttp import web

from engine.api.query import NoQuery
from engine.intake.auth import Token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from engine.config.tables import Scope

API: Final = "/v1/"  #: below it every route reads its query; what monitoring asks for takes any
TOKEN: Final = web.RequestKey("token", Token)  #: of a request to a route with a scope
QUERY: Final = web.RequestKey[Any]("query", object)  #: of a request below `API`: the structure of its route


@dataclass(frozen=True)
class Lines:
    """A body of NDJSON: what its lines may be."""

    kinds: tuple[type[msgspec.Struct], ...]


@dataclass(frozen=True)
class Either:
    """A body of JSON: what it may be."""

    kinds: tuple[type[msgspec.Struct], ...]


@dataclass(frozen=True)
class Text:
    """A body that is no JSON; *others*: types that it may have as well."""

    content_type: str
    others: tuple[str, ...] = ()


Body: TypeAlias = "type[msgspec.Struct] | Either | Lines | Text"


@dataclass(frozen=True)
class Route:
    """One method on one path.

    Attributes:
        method: of HTTP; ``GET`` answers ``HEAD`` too.
        path: with its parts in braces, as aiohttp takes them; `engine.api.openapi.PARTS` tells of each.
        call: name of the handler, a method of the class that declares the route.
        scope: a client's token must have it; None: no token is asked for.
        query: the parameters that it takes.
        text: what it does, for docs/http.md; its words before a ``:``, ``;`` or ``(`` are the summary.
        takes: the body of a request.
        answers: status → body, of successes.
        errors: status → when, of errors that not every route of its kind gives; see `engine.api.openapi`.
        name: of the operation, where another route has the same handler.
    """

    method: str
    path: str
    call: str
    scope: Scope | None = None
    query: type[msgspec.Struct] = NoQuery
    text: str = field(kw_only=True)
    takes: Body | None = field(default=None, kw_only=True)
    answers: Mapping[int, Body] = field(kw_only=True)
    errors: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    name: str = field(default="", kw_only=True)


class Declares(Protocol):
    """What has handlers, and declares their routes."""

    @property
    def routes(self) -> Sequence[Route]:
        """The routes."""
