"""Examples of bodies and answers, by structure, for ``GET /openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engine.api import schemas
from engine.intake.problems import Problem
from engine.intake.task_body import TaskBody

if TYPE_CHECKING:
    import msgspec

EXAMPLES: Final[dict[type[msgspec.Struct], Any]] = {
    TaskBody: {
        "id": "release-42",
        "targets": ["http://img.example.com/a.jpg", "http://img.example.com/b.jpg"],
        "due_s": 60,
    },
    schemas.Accepted: {"task_id": "release-42", "state": "accepted", "total": 6},
    schemas.LogFormat: {"format": "text"},
    schemas.Forgotten: {"node": "edge-7", "failed": 12},
    Problem: {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "targets[3]: takes a URL with a host",
        "field": "targets[3]",
    },
}
