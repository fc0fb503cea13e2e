"""``python -m tests.settings_docs``: writes docs/settings.md from the tables of ``engine.toml``.

What a key takes, its default and its unit are those of its structure, the meaning is the comment there; the
example is that of docs/configuration.md. A test compares the page with what is made here.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import tokenize
import tomllib
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from engine.config import doors, tables
from tests.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.config.table import Table

PAGE: Final = DOCS / "settings.md"
EXAMPLE: Final = DOCS / "configuration.md"
_PART: Final = re.compile(r"(<!-- (\w+): made by [\w .-]+ -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_UNITS: Final = (
    ("_per_s", "a second"),
    ("_s", "seconds"),
    ("_days", "days"),
    ("_bytes", "bytes"),
    ("_port", "port"),
)
FURTHER: Final = """
[engine]
name = "purge-1"
rebound_s = 60
trace_url = "http://127.0.0.1:4318"
trusted_proxies = ["10.0.0.0/24"]
[store]
wait_replicas = 1
[site]
confirm_over = 10_000
[node]
rules_file = "/srv/purgeline/rules/purgeline.rules"
rules_state_file = "/var/lib/trafficserver/purgeline.state"
rules_url = "http://{host}"
generation_header = "X-Generation"
generation_secret = "a secret of yours"
prefetch_statuses = [301, 404]
visit_url = "https://10.0.1.1"
server_name = "edge-1.example.com"
requests_per_s = 1200
token = "a token of that engine"
token_file = "/etc/purgeline/eu.token"
public_keys = ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"]
hit_ratio = 0.97
[alert]
secret = "a secret of yours"
smtp_url = "smtp+starttls://purgeline:PASSWORD@mail.example.com:587"
mail_from = "purgeline@example.com"
mail_to = ["operators@example.com"]
[proof]
objective_s = 5
[origin]
prefetch_per_s = 50
ca_file = "/etc/purgeline/ca.pem"
server_name = "origin.example.com"
[canary]
interval_s = 60
listen = "10.0.0.5:9184"
["door, kind purge"]
secret_header = "X-Purge-Secret"
secret_sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
default_hosts = ["www.example.com"]
names = ["purge.example.com"]
["door, kind htcp"]
key_file = "/etc/purgeline/htcp.keys"
groups = ["239.128.0.112"]
["door, kind redis"]
max_age_s = 3600
default_hosts = ["www.example.com"]
["door, kind cdni"]
token = "ucdn"
url = "https://dcdn.example.com"
allow = ["192.0.2.0/24"]
default_hosts = ["www.example.com"]
cert_file = "/etc/purgeline/cdni.pem"
key_file = "/etc/purgeline/cdni.key"
client_ca_file = "/etc/purgeline/ucdn-ca.pem"
certificates = {"ucdn.example.net" = "ucdn"}
"""
"""Examples of keys whose default is nothing, by heading, as docs/configuration.md has that default."""

_MANY: Final = frozenset({"site", "layer", "node", "callback", "origin", "auth.tokens"})
_NAMES: Final = {str: "text", int: "whole number", float: "number", bool: "true, false"}


def known() -> dict[str, type[Table]]:
    """Return the table of each heading, the doors one a kind; in the order of the example."""
    found = {name: table for name, table in tables.TABLES.items() if name not in {"door", "auth"}}
    return found | {f"door, kind {kind}": table for kind, table in doors.DOORS.items()}


def example() -> dict[str, dict[str, Any]]:
    """Return the values of docs/configuration.md's whole example, by heading; of several tables all keys."""
    page = EXAMPLE.read_text(encoding="utf-8")
    [text] = re.findall(r"^```toml\n(\[engine\].*?)^```$", page, re.MULTILINE | re.DOTALL)
    read: dict[str, Any] = tomllib.loads(text)
    read["auth.tokens"] = read.pop("auth")["tokens"]
    for door in read.pop("door"):
        read[f"door, kind {door.pop('kind')}"] = door
    merged: dict[str, dict[str, Any]] = {}
    for name, given in read.items():
        for table in given if isinstance(given, list) else [given]:
            merged[name] = table | merged.get(name, {})
    return merged


def examples() -> dict[str, dict[str, Any]]:
    """Return the values that the page shows."""
    further = tomllib.loads(FURTHER)
    return {name: values | further.get(name, {}) for name, values in example().items()}


def meanings(table: type[Table]) -> dict[str, str]:
    """Return what the comments beside the fields of a table, and those of its bases, say of each."""
    found: dict[str, str] = {}
    for base in reversed(table.__mro__[:-1]):
        if base.__module__.startswith("engine.config"):
            found |= _comments(inspect.getsource(base))
    return found


def keys() -> str:
    """Return a heading and a table for each table of ``engine.toml``."""
    given = examples()
    return "\n".join(f"## {_heading(name)}\n\n{_rows(table, given[name])}" for name, table in known().items())


def _heading(name: str) -> str:
    table, _, kind = name.partition(", kind ")
    if kind:
        return f"`[[{table}]]` of the kind {kind}"
    return f"`[[{name}]]`" if name in _MANY else f"`[{name}]`"


def _rows(table: type[Table], given: dict[str, Any]) -> str:
    said = meanings(table)
    lines = ["| key | meaning | takes | default | example |", "|---|---|---|---|---|"]
    for field in msgspec.structs.fields(table):
        takes = f"{_takes(field.type)}{_unit(field.name)}"
        default = _default(field)
        shown = f"`{_toml(given[field.name])}`" if field.name in given else ""
        example = "" if shown == default else shown
        cells = (f"`{field.name}`", said.get(field.name, ""), takes, default, example)
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    """Return *page* with its tables made anew."""
    return _PART.sub(lambda found: f"{found[1]}{keys()}{found[4]}", page)


def _comments(source: str) -> dict[str, str]:
    """Return the ``#:`` comments of a class: those of a field's own lines, or of the lines above it."""
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#:"):
            comments[token.start[0]] = token.string.removeprefix("#:").strip()
    [body] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found: dict[str, str] = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno - 1, (node.end_lineno or node.lineno) + 1)
            said = [comments.pop(line) for line in lines if line in comments]
            if said:
                found[node.target.id] = re.sub(r"``(.*?)``", r"`\1`", " ".join(said)).replace("|", "\\|")
    return found


def _takes(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) in {UnionType, Union}:
        return ", ".join(_takes(part) for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is list:
        return f"list of {_takes(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "table of text"
    return _NAMES[kind]


def _unit(name: str) -> str:
    return next((f", {unit}" for end, unit in _UNITS if name.endswith(end)), "")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{_toml(field.default_factory())}`"
    if field.default is msgspec.NODEFAULT:
        return "none: needed"
    return "" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False).replace("|", "\\|")


def undescribed() -> Iterator[str]:
    """Yield the keys that no comment explains."""
    for name, table in known().items():
        said = meanings(table)
        yield from (
            f"{name}.{field.name}" for field in msgspec.structs.fields(table) if field.name not in said
        )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name} written")
