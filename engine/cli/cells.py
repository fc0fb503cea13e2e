"""What stands in tables and lines: columns, sums over layers, and values as text.

What came over the network is shown with its control characters escaped, so that no cache's answer can drive
the terminal or forge a column.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from rich.text import Text

    from engine.client.bodies import Document

NODE_COLUMNS = (
    *("name", "layer", "driver", "url", "state", "waiting", "in_flight", "delayed"),
    *("oldest_delayed_s", "acked", "refused", "failed", "last_error", "last_error_at"),
    *(
        "notes",
        "evidence",
        "reason",
        "held",
        "absent",
        "canary",
        "leaves",
    ),  # behind what was there before: scripts count columns
)
ENGINE_COLUMNS = (
    *("name", "state", "leader", "pending", "lag_s", "version", "host", "pid", "listen", "consumer"),
)
WIDE_COLUMNS = frozenset(
    {
        "driver",
        "url",
        "last_error",
        "last_error_at",
        "kind",
        "consumer",
        "notes",
        "reason",
        "remedy",
        "held",
        "start_at",
        "leaves",
    }
)  #: left out of lists in a terminal
LAST_ERROR_COLUMNS = ("name", "last_error_at", "last_error")
TASK_COLUMNS = (
    *("task_id", "action", "kind", "state", "total", "counter", "failed", "delayed", "created_at"),
    *("cancelled", "absent", "start_at"),  # behind what was there before: scripts count columns
)
HISTORY_COLUMNS = ("created_at", "by", "action", "match", "matched", "state", "outcome", "task_id")
ACCEPTED_COLUMNS = ("task_id", "state", "total")
SILENCE_COLUMNS = ("id", "state", "matchers", "until", "by", "reason", "alerts", "created_at")
OUTBOX_COLUMNS = ("task_id", "state", "kept_at", "age_s", "bytes", "targets", "reason")
RETRIED_COLUMNS = ("retries", "task_id", "total", "tasks")
WOULD_RETRY_COLUMNS = ("retries", "total", "nodes")
LAYER_COLUMNS = ("name", "total", "counter", "failed", "delayed", "cancelled")
SHARE_COLUMNS = (
    *("name", "layer", "total", "acked", "absent", "failed", "delayed", "cancelled", "stale"),
    *("acked_at", "verified_at"),
)  #: of a task on one node
HELD_COLUMNS = ("node", "operation", "host", "subtasks", "reason")
REASON_COLUMNS = ("node", "reason")
CHECK_COLUMNS = ("name", "driver", "verdict", "why", "notes")
DOCTOR_COLUMNS = ("name", "verdict", "value", "limit", "reason", "remedy")
FINDING_COLUMNS = ("name", "reason", "remedy")
CONFIG_COLUMNS = ("name", "layer", "driver", "url", "parents")
ERROR_COLUMNS = ("node", "target", "reason")
PREVIEW_COLUMNS = (
    *("name", "layer", "driver", "operation", "subtasks", "objects", "parents", "state", "reason"),
)
WHY_COLUMNS = (
    *("name", "layer", "status", "age_s", "etag", "last_modified", "digest", "hit", "verdict", "conclusion"),
    "error",
)
PURGE_COLUMNS = ("task_id", "kind", "match", "state", "created_at", "nodes")
TIMES = frozenset({"until", "since", "timestamp", "ctime", "mtime", "etime"})
"""And what ends in _at: UNIX seconds; the last three are those of triggers (RFC 8007)."""
SKIPPED_COLUMNS = ("name", "reason")
NOTE_COLUMNS = ("nodes", "note")
_STYLES = {
    **dict.fromkeys(("done", "ready", "alive", "proven", "fresh", "ok"), "green"),
    **dict.fromkeys(("accepted", "running", "catching_up", "not known"), "cyan"),
    **dict.fromkeys(("partial", "refusing", "paused", "warn"), "yellow"),
    **dict.fromkeys(
        ("failed", "down", "sick", "gone", "forwarded", "unproven", "refused", "stale", "fail"), "red"
    ),
    "unreachable": "red",
    "cancelled": "magenta",
}


def clean(value: object) -> str:
    r"""Return *value* as text without control characters: they are escaped, as in ``\x1b``."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def merge_layers(documents: Sequence[Document]) -> list[Document]:
    """Return one row for each layer, with the sums over all *documents*."""
    by_name: dict[str, list[Document]] = {}
    for document in documents:
        for layer in rows_of(document, "layers"):
            by_name.setdefault(str(layer.get("name")), []).append(layer)
    return [sum_of(name, layers) for name, layers in by_name.items()]


def sum_of(name: str, rows: Sequence[Document]) -> Document:
    """Return one row named *name*, with the sums of the numbers of *rows*."""
    return {"name": name, **{key: sum(int(row.get(key) or 0) for row in rows) for key in LAYER_COLUMNS[1:]}}


def rows_of(document: Document, key: str) -> list[Document]:
    """Return the list of objects that *document* has under *key*, if it has one."""
    return [row for row in document.get(key) or () if isinstance(row, dict)]


def distinct(documents: Sequence[Document], key: str) -> list[Document]:
    """Return the objects that *documents* have under *key*, the same one of several documents once."""
    rows = (row for document in documents for row in rows_of(document, key))
    return list({str(row): row for row in rows}.values())


def held_of(rows: Sequence[Document]) -> list[Document]:
    """Return one row for each host and operation that nodes hold."""
    return [{"node": row.get("name"), **held} for row in rows for held in rows_of(row, "held")]


def reasons_of(rows: Sequence[Document]) -> list[Document]:
    """Return one row for each node that says why it takes nothing, or why its canary is not fresh.

    What its last error says is not said twice.
    """
    why = [
        {"node": row.get("name"), "reason": row["reason"]}
        for row in rows
        if row.get("reason") and row["reason"] != row.get("last_error") and not row.get("held")
    ]
    canaries = [(row.get("name"), (row.get("canary") or {}).get("reason")) for row in rows]
    return why + [{"node": name, "reason": f"canary: {reason}"} for name, reason in canaries if reason]


def _is_document(item: object) -> bool:
    """Tell whether an item of a list is no word of its own, such as an alert's key (`_item`)."""
    return isinstance(item, dict) and bool(item) and not {"key", "operation"} & set(item)


def _item(item: object) -> str:
    if isinstance(item, dict) and "key" in item:  # an alert that is silenced
        return clean(item["key"])
    if isinstance(item, dict) and "operation" in item:  # what a node holds
        return " ".join(clean(item.get(key, "-")) for key in ("operation", "host", "subtasks"))
    return clean(item)


def by_note(rows: Sequence[Document]) -> list[Document]:
    """Return one row for each note of *rows*, with the names of those that have it."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for note in row.get("notes") or ():
            names.setdefault(str(note), []).append(str(row.get("name")))
    return [{"nodes": of_note, "note": note} for note, of_note in names.items()]


def flatten(document: Document, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield keys, joined by dots, and values that are no objects; those of a list go by their first value."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        elif value and isinstance(value, list) and all(map(_is_document, value)):
            for (_, name), *rest in (item.items() for item in value):
                yield from flatten(dict(rest), f"{prefix}{key}.{name}.")
        else:
            yield f"{prefix}{key}", value


def plain(value: Any) -> str:
    """Return a cell for a program: numbers as they are, ``-`` for nothing."""
    match value:
        case None | "":
            return "-"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case list():
            return ",".join(map(_item, value)) or "-"
        case dict() if isinstance(states := value.get("states"), dict):  # the leaves of a node
            return ",".join(f"{clean(state)}:{count}" for state, count in states.items()) or "-"
        case dict():  # a node's canary
            return clean(value.get("state") or "-")
        case _:
            return clean(value)


def shown(key: str, value: Any) -> str:
    """Return a cell for people: local times, and lists that break between their items."""
    is_time = key.endswith("_at") or key.rpartition(".")[2] in TIMES
    if is_time and isinstance(value, int | float):
        return time.strftime("%m-%d %H:%M:%S", time.localtime(value)) if value else "-"
    return ", ".join(map(_item, value)) or "-" if isinstance(value, list) else plain(value)


def styled(key: str, value: Any) -> Text:
    """Return a cell for people, with coloured states."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal pays for rich

    return Text(shown(key, value), style=_STYLES.get(str(value), "") if key in {"state", "verdict"} else "")
