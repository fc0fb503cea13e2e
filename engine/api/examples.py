"""Examples of bodies and answers, by structure, for ``GET /openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engine.api import schemas
from engine.intake.problems import Problem
from engine.intake.task_body import TaskBody
from engine.tasks.document_types import TaskDocument

if TYPE_CHECKING:
    import msgspec

_TASK: Final = {
    "task_id": "release-42",
    "action": "purge",
    "kind": "url",
    "state": "partial",
    "active": True,
    "working_layer": "edge",
    "total": 2,
    "counter": 1,
    "failed": 0,
    "delayed": 1,
    "cancelled": 0,
    "layers": [
        {"name": "parent", "total": 1, "counter": 1, "failed": 0, "delayed": 0, "cancelled": 0},
        {"name": "edge", "total": 1, "counter": 0, "failed": 0, "delayed": 1, "cancelled": 0},
    ],
    "created_at": 1795472993.25,
    "updated_at": 1795473053.31,
    "due_at": 1795473053.25,
    "errors": [
        {
            "node": "edge-2",
            "target": "http://img.example.com/a.jpg",
            "reason": "unreachable: no route to host",
        }
    ],
}

EXAMPLES: Final[dict[type[msgspec.Struct], Any]] = {
    TaskBody: {
        "id": "release-42",
        "targets": ["http://img.example.com/a.jpg", "http://img.example.com/b.jpg"],
        "due_s": 60,
    },
    schemas.Accepted: {"task_id": "release-42", "state": "accepted", "total": 6},
    TaskDocument: _TASK,
    schemas.FoundTask: {
        **_TASK,
        "callback": {
            "host": "hooks.example.com",
            "state": "pending",
            "reports": "partial",
            "attempts": 2,
            "last": "answered 503",
            "next_at": 1795473061.5,
            "over_at": None,
        },
    },
    schemas.LogFormat: {"format": "text"},
    schemas.Forgotten: {"node": "edge-7", "failed": 12},
    Problem: {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "targets[3]: takes a URL with a host",
        "field": "targets[3]",
    },
}
