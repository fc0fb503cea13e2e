"""``python -m tests.http_docs``: writes the tables of docs/http.md from what the routes declare.

A table stands between two comments, the first of which names it; a test compares them with what is made here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args, get_origin

import msgspec

from engine.api.openapi import STATUSES
from engine.api.query import takes
from engine.intake.task_body import TaskBody
from tests.described import ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.api.route import Route

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/http.md"
_TABLE: Final = re.compile(r"(<!-- (\w+): made by [\w .-]+ -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def routes() -> str:
    """Return what can be asked; routes with one text stand in one row."""
    rows: dict[str, list[str]] = defaultdict(list)
    for route in ROUTES:
        errors = (f"; {status}: {when}" for status, when in route.errors.items())
        rows[route.text + "".join(errors)].append(_request(route))
    return _table(("request", "answer"), ((", ".join(asked), text) for text, asked in rows.items()))


def parameters() -> str:
    """Return what routes take in their queries."""
    rows = [
        (
            f"`{route.method} {route.path}`",
            f"`{field.name}`",
            _said(field),
            takes(field.type),
            _default(field),
        )
        for route in ROUTES
        for field in msgspec.structs.fields(route.query)
    ]
    return _table(("route", "parameter", "meaning", "takes", "default"), rows)


def fields() -> str:
    """Return the fields of a task."""
    known = msgspec.structs.fields(TaskBody)
    return _table(
        ("field", "takes", "default"),
        ((f"`{field.name}`", _said(field), _default(field)) for field in known),
    )


def statuses() -> str:
    """Return every status."""
    return _table(("status", "when"), ((str(status), when) for status, when in STATUSES.items()))


def filled(page: str) -> str:
    """Return *page* with its tables made anew."""
    tables: dict[str, Callable[[], str]] = {
        made.__name__: made for made in (routes, parameters, fields, statuses)
    }
    return _TABLE.sub(lambda found: found[1] + tables[found[2]]() + found[4], page)


def _request(route: Route) -> str:
    query = "&".join(f"{field.name}=" for field in msgspec.structs.fields(route.query))
    return f"`{route.method} {route.path}{'?' if query else ''}{query}`"


def _said(field: msgspec.structs.FieldInfo) -> str:
    return next((note.description or "" for note in _notes(field)), "")


def _default(field: msgspec.structs.FieldInfo) -> str:
    for note in _notes(field):
        if note.extra and note.extra["default"]:
            return str(note.extra["default"])
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
    if field.default in {msgspec.NODEFAULT, msgspec.UNSET, ""}:
        return ""
    shown = field.default if isinstance(field.default, str) else msgspec.json.encode(field.default).decode()
    return f"`{shown}`"


def _notes(field: msgspec.structs.FieldInfo) -> list[msgspec.Meta]:
    parts = get_args(field.type) if get_origin(field.type) is Annotated else ()
    return [part for part in parts if isinstance(part, msgspec.Meta)]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    text = "".join(f"| {' | '.join(line)} |\n".replace("  ", " ") for line in lines)
    return re.sub(r"\bdocs/(\w+\.md)", r"[\1](\1)", text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name} written")
