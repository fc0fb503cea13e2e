"""Answers of a real engine against ``/openapi.json``: what is answered is described, and so."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec

from engine.api import openapi
from engine.api.checking import CheckRoutes
from engine.api.debug_routes import DebugRoutes
from engine.api.description import Description
from engine.api.engine_routes import EngineRoutes
from engine.api.group_routes import GroupRoutes
from engine.api.history import HistoryRoutes
from engine.api.receipts import ReceiptRoutes
from engine.api.recording import RecordingRoutes
from engine.api.retry_routes import RetryRoutes
from engine.api.rewind import RewindRoutes
from engine.api.silencing import SilenceRoutes
from engine.api.tasks import TaskRoutes
from engine.api.why import WhyRoutes
from engine.console.routes import ConsoleRoutes
from engine.tree.routes import TreeRoutes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.api.route import Route

ROUTES: tuple[Route, ...] = (
    *TaskRoutes.routes,
    *GroupRoutes.routes,
    *ReceiptRoutes.routes,
    *RetryRoutes.routes,
    *RewindRoutes.routes,
    *HistoryRoutes.routes,
    *WhyRoutes.routes,
    *EngineRoutes.routes,
    *RecordingRoutes.routes,
    *DebugRoutes.routes,
    *SilenceRoutes.routes,
    *CheckRoutes.routes,
    *ConsoleRoutes.routes,
    *TreeRoutes.routes,
    *Description.routes,
)
"""What the engine's classes declare; a test compares it with what an engine serves."""


class UndescribedError(AssertionError):
    """An answer that the document does not tell of."""


@cache
def document() -> dict[str, Any]:
    """Return the document of `ROUTES`, as JSON has it."""
    return json.loads(msgspec.json.encode(openapi.document(ROUTES)))  # type: ignore[no-any-return]


@cache
def path_of(method: str, path: str) -> str:
    """Return the path of the document that *path* is one of; empty: none is."""
    for shown, operations in document()["paths"].items():
        pattern = re.sub(r"{\w+}", "[^/]+", shown)
        if method.lower() in operations and re.fullmatch(pattern, path.partition("?")[0]):
            return str(shown)
    return ""


def check(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Hold one answer to the document, and return the path of its operation.

    Args:
        method: of the request.
        path: of the request, with its query.
        status: of the answer.
        headers: of the answer, names in lower case.
        body: of the answer.

    Raises:
        UndescribedError: it is not described; says what.
    """
    shown = path_of(method, path)
    if shown:
        response = document()["paths"][shown][method.lower()]["responses"].get(str(status))
    else:
        response = document()["components"]["responses"][str(status)] if status in {404, 405} else None
    if response is None:
        raise UndescribedError(f"{method} {shown or path}: {status} is not described: {body[:200]!r}")
    if "$ref" in response:
        response = document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    for name, header in response.get("headers", {}).items():
        _hold(header["schema"], _number(headers.get(name.lower())), f"{method} {path}: {status}: {name}")
    content_type = headers.get("content-type", "").partition(";")[0]
    if content_type not in response["content"]:
        raise UndescribedError(f"{method} {path}: {status}: {content_type} is not described")
    schema = response["content"][content_type]["schema"]
    where = f"{method} {path}: {status}"
    if content_type == openapi.NDJSON:
        for line in body.splitlines():
            _hold(schema["contentSchema"], json.loads(line), where)
    elif schema != {"type": "string"}:
        _hold(schema, json.loads(body), where)
    return shown


def _hold(schema: Mapping[str, Any], value: object, where: str) -> None:
    error = next(_validator(json.dumps(schema)).iter_errors(value), None)
    if error is not None:
        raise UndescribedError(f"{where}: {error.message} at {list(error.instance_path)}")


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    whole = {**json.loads(schema), "components": _strict(document()["components"])}
    return jsonschema_rs.Draft202012Validator(whole)


def _strict(value: Any) -> Any:
    """Return schemas whose objects have no other fields, so that a field which is not described is told."""
    if isinstance(value, list):
        return [_strict(part) for part in value]
    if not isinstance(value, dict):
        return value
    stricter = {key: _strict(part) for key, part in value.items()}
    if value.get("type") == "object" and "properties" in value:
        stricter["additionalProperties"] = False
    return stricter


def _number(value: str | None) -> Any:
    return int(value) if value is not None and value.isdecimal() else value
