"""The configuration of a shadow: that of the engine here, cut off from all that it could reach. Pure.

What is kept is listed, not what goes: a table, or a key of the engine or of a node, that is new, or not known
to this, names nothing that a shadow could reach.
"""

from __future__ import annotations

import hashlib
import json

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

ENGINE_KEPT = (
    *("name", "region_count", "saver_count", "saver_backlog_count", "saver_push_timeout_s"),
    *("pipeline_depth", "connections_per_node", "due_s", "on_incapable", "rebound_s", "drain_timeout_s"),
    *("log_format", "log_level", "log_subtasks", "log_audit", "live_subtasks_max", "retention_days"),
    *("gone_after_s", "delay_ttl_s", "delay_rows_max", "listen_backlog", "connections_max"),
    *("body_max_bytes", "header_timeout_s", "body_timeout_s", "idle_timeout_s", "connect_timeout_s"),
    *("request_timeout_s", "poison_after_s", "attempts_max"),
    *("prefetch_concurrency", "prefetch_timeout_s", "prefetch_max_bytes"),
)
SCOPES = ["submit", "read", "admin"]
NODE_KEPT = (
    *("name", "driver", "layer", "parents", "purge_method", "purge_path", "key_mode", "wildcard"),
    *("prefetch_statuses", "requests_per_s", "hit_ratio"),
)
SINK_FIELD = "X-Sink"  #: of each request to a sink: driver and name of the node that it stands for
GENERATION = {"generation_header": "X-Generation", "generation_secret": "shadow"}
BY_PLUGIN = ("rules_file", "generation_header")  #: with which a node takes more than URLs


def shadow_of(table: dict[str, Any], *, listen: str, data_dir: str, sink: str, token: str) -> dict[str, Any]:
    """Return the tables of a shadow.

    Args:
        table: of ``engine.toml``, decoded.
        listen: where the shadow listens.
        data_dir: its folder.
        sink: URL of what stands for every cache and every origin.
        token: that it is asked with, where the engine takes tokens.
    """
    engine = {key: value for key, value in table.get("engine", {}).items() if key in ENGINE_KEPT}
    made: dict[str, Any] = {
        "engine": {**engine, "listen": listen, "data_dir": data_dir, "history_days": 0},
        "store": {"url": "sqlite:"},
        **{name: table[name] for name in ("site", "layer", "proof") if name in table},
        "node": [node_of(node, sink) for node in table.get("node", [])],
        "origin": [{"host": origin["host"], "url": sink} for origin in table.get("origin", [])],
    }
    if table.get("auth", {}).get("tokens"):
        digest = hashlib.sha256(token.encode()).hexdigest()
        made["auth"] = {"tokens": [{"name": "shadow", "sha256": digest, "scopes": SCOPES}]}
    return made


def node_of(node: dict[str, Any], sink: str) -> dict[str, Any]:
    """Return a node that is the sink, and takes what the cache takes."""
    kept = {key: node[key] for key in NODE_KEPT if key in node}
    more = GENERATION if any(node.get(key) for key in BY_PLUGIN) else {}
    mark = f"{node.get('driver')} {node.get('name')}"
    return {**kept, **more, "url": sink, "headers": {SINK_FIELD: mark}}


def text_of(table: dict[str, Any]) -> str:
    """Return tables as TOML, a line each."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
