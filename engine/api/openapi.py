"""The interface as OpenAPI 3.1, made from what the routes declare. Pure.

Bodies, queries and answers are the structures that msgspec reads and writes. What every route of a kind gives
is not declared by each: a route with a scope gives 401 and 403, one with a body 413 and 415, one below
`engine.api.route.API` 422, and all give what `_EVERYWHERE` says.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from engine._version import __version__
from engine.api.examples import EXAMPLES
from engine.api.route import API, Either, Lines, Route, Text
from engine.base.phrases import phrase_of
from engine.config.tables import Scope
from engine.intake.problems import CONTENT_TYPE, Problem
from engine.intake.task_body import ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.api.route import Body

Json = dict[str, Any]

STATUSES: Final = {
    200: "done; or it was there already",
    202: "saved",
    400: "not HTTP, not JSON",
    401: "no token, or none that is known",
    403: "the token has not the scope",
    404: "no such task or route",
    405: "not a method of this path; `Allow` says what it takes",
    408: "the request took too long to arrive",
    409: "the id is taken by another body; or it cannot be done as things are",
    413: "the body is too large",
    415: "the body is not JSON, or compressed",
    417: "an `Expect` that is not `100-continue`, on any route",
    422: "a field or a parameter is wrong: `field` and `detail` say which and what it takes",
    429: "the token is over its rate; `Retry-After`",
    500: "a mistake of the engine's; its log has more",
    503: "full or not able to save; `Retry-After`",
}
"""Every status, and when."""

PARTS: Final[dict[str, Json]] = {
    "id": {"description": "of a task", "schema": {"type": "string", "pattern": f"^{ID.pattern}$"}},
    "canary": {"description": "of a round", "schema": {"type": "string"}},
    "silence": {"description": "id of a silence", "schema": {"type": "string"}},
    "name": {"description": "of a node", "schema": {"type": "string"}},
    "file": {"description": "of the operators' page", "schema": {"type": "string"}},
}
"""What stands in braces in the paths of routes."""

_EVERYWHERE: Final = (400, 408, 417, 500, 503)
_PROBLEMS: Final = tuple(status for status in STATUSES if status >= 400)  # noqa: PLR2004 - HTTP
_HEADERS: Final = {
    401: ("WWW-Authenticate", "string", "what the engine takes, as RFC 6750 has it"),
    403: ("WWW-Authenticate", "string", "the scope that is missing"),
    405: ("Allow", "string", "the methods of the path"),
    429: ("Retry-After", "integer", "seconds"),
    503: ("Retry-After", "integer", "seconds"),
}
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_ABOUT: Final = (
    "Purges and prefetches on every cache. Errors are problem documents (RFC 9457). `HEAD` works where `GET` "
    "does; `OPTIONS` answers 204 with `Allow`; another method is 405 with it. Query parameters that a route "
    "does not take are 422 below `/v1/`. Without tokens in its configuration the engine asks for none."
)


def statuses_of(route: Route) -> list[int]:
    """Return the errors that a route can give."""
    found = {*_EVERYWHERE, *route.errors}
    if route.scope is not None:
        found |= {401, 403}
    if route.takes is not None:
        found |= {413, 415}
    if route.path.startswith(API):
        found.add(422)
    return sorted(found)


def document(routes: Sequence[Route]) -> Json:
    """Return the document of all *routes*."""
    paths: Json = {}
    kinds: dict[type[msgspec.Struct], None] = {Problem: None}
    for route in routes:
        kinds |= dict.fromkeys(kind for body in _bodies(route) for kind in _kinds(body))
    _, schemas = msgspec.json.schema_components([*kinds, *(r.query for r in routes)], ref_template=_REF)
    parameters = {route.query: schemas.pop(route.query.__name__, {}) for route in routes if route.query}
    for route in routes:
        operation = _operation(route, parameters[route.query])
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    schemas = _plain(schemas)
    for kind, example in EXAMPLES.items():
        if kind in kinds:
            schemas[kind.__name__]["examples"] = [example]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Purgeline",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {str(status): _problem(status, STATUSES[status]) for status in _PROBLEMS},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"a token of `[[auth.tokens]]`; its scopes: {', '.join(get_args(Scope))}",
                }
            },
        },
    }


def _operation(route: Route, query: Json) -> Json:
    operation: Json = {
        "operationId": route.name or route.call,
        "summary": re.split(r"[:;(]", route.text)[0].strip(),
        "description": route.text,
        "tags": [route.path.strip("/").split("/")[2] if route.path.startswith(API) else "monitoring"],
        "security": [] if route.scope is None else [{"token": [route.scope]}],
        "responses": {},
    }
    parameters = [*_parts(route.path), *_parameters(_plain(query))]
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.takes)}
    for status, body in route.answers.items():
        operation["responses"][str(status)] = {"description": STATUSES[status], "content": _content(body)}
    for status in statuses_of(route):
        said = route.errors.get(status)
        response = {"$ref": f"#/components/responses/{status}"} if said is None else _problem(status, said)
        operation["responses"][str(status)] = response
    return operation


def _parts(path: str) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, **PARTS[name]}


def _parameters(query: Json) -> Iterator[Json]:
    for name, schema in query.get("properties", {}).items():
        shown = dict(schema)
        parameter = {"name": name, "in": "query", "required": name in query["required"], "schema": shown}
        if "description" in shown:
            parameter["description"] = shown.pop("description")
        yield parameter


def _content(body: Body) -> Json:
    if isinstance(body, Text):
        return {kind: {"schema": {"type": "string"}} for kind in (body.content_type, *body.others)}
    kinds = [{"$ref": _REF.format(name=kind.__name__)} for kind in _kinds(body)]
    line: Json = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if not isinstance(body, Lines):
        return {_JSON: {"schema": line}}
    schema = {
        "type": "string",
        "description": "a JSON document a line",
        "contentMediaType": NDJSON,
        "contentSchema": line,
    }
    return {NDJSON: {"schema": schema}}


def _problem(status: int, text: str) -> Json:
    problem = Problem(phrase_of(status), status, text)
    content = {"schema": {"$ref": _REF.format(name="Problem")}, "example": msgspec.to_builtins(problem)}
    response: Json = {"description": text, "content": {CONTENT_TYPE: content}}
    if status in _HEADERS:
        name, kind, said = _HEADERS[status]
        header = {"description": said, "required": True, "schema": {"type": kind}}
        response["headers"] = {name: header}
    return response


def _bodies(route: Route) -> list[Body]:
    return [*route.answers.values(), *([] if route.takes is None else [route.takes])]


def _kinds(body: Body) -> tuple[type[msgspec.Struct], ...]:
    if isinstance(body, Text):
        return ()
    return body.kinds if isinstance(body, Lines | Either) else (body,)


def _plain(value: Any) -> Any:
    """Return a schema whose descriptions, which are docstrings, mark code as docs/ does; no titles."""
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(text).replace("``", "`") if _is_text(key, text) else _plain(text)
            for key, text in value.items()
            if key != "title" or not isinstance(text, str)
        }
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _is_text(key: str, value: object) -> bool:
    return key == "description" and isinstance(value, str)
