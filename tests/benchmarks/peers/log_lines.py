"""Lines of JSON as others make them: ``log_lines.py stdlib|loguru``; prints lines per second."""

import io
import json
import sys
import time
from collections.abc import Callable

from loguru import logger
from say import say

COUNT = 60_000


def fields() -> dict[str, object]:
    """Return what a line says, as a dictionary made anew."""
    return {
        "time": 1732400000.123456,
        "level": "INFO",
        "message": "subtask",
        "service": "purgeline/1.4.2",
        "action": "purge",
        "task_id": "1a20ec28663bfbac4b3190020b2",
        "node": "edge-1",
        "target": "http://img.example.com/a/b/c.jpg",
        "operation": "purge_url",
        "status": 200,
        "outcome": "acked",
        "duration_ms": 1.25,
    }


def stdlib() -> Callable[[], object]:
    """Return what makes a line with json."""

    def make() -> bytes:
        return (json.dumps(fields()) + "\n").encode()

    return make


def with_loguru() -> Callable[[], object]:
    """Return what logs a line with loguru's own JSON."""
    logger.remove()
    logger.add(io.StringIO(), serialize=True, format="{message}")

    def make() -> None:
        facts = fields()
        for own in ("time", "level", "message"):  # loguru writes these itself
            del facts[own]
        logger.bind(**facts).info("subtask")

    return make


if __name__ == "__main__":
    make = {"stdlib": stdlib, "loguru": with_loguru}[sys.argv[1]]()
    for _ in range(5000):
        make()
    began = time.perf_counter()
    for _ in range(COUNT):
        make()
    say(COUNT / (time.perf_counter() - began))
