"""Configuration: one TOML file plus environment overrides, checked whole before anything starts.

Only this module reads files or the environment. Every part of the engine is handed the few values
it needs. The unit is the end of a key's name: ``_s`` seconds, ``_bytes``, ``_count``.

An environment variable ``PURGELINE_<TABLE>__<KEY>`` (``PURGELINE_ENGINE__LISTEN``) overrides a
scalar of the tables ``engine``, ``store`` and ``alert``.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from engine.config.redis_url import parse_redis_url
from engine.errors import ConfigError

Driver = Literal["varnish", "ats", "nginx", "squid"]
LogFormat = Literal["struct", "dict", "text"]
Scope = Literal["submit", "read", "admin"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST_RULE = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\*|\[[0-9a-f:.]+\]")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table: frozen, and a key it does not know is refused."""


class EngineConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engine]``: limits and places of one engine. Every key is optional."""

    listen: str = "127.0.0.1:9181"
    name: str = ""  #: among the engines of one Redis; empty: host name and port
    data_dir: str = "var"
    region_count: int = 64
    saver_count: int = 1
    saver_backlog_count: int = 20_000  #: records one saver may hold
    saver_push_timeout_s: float = 1.0
    pipeline_depth: int = 64  #: requests in flight on one node connection
    connections_per_node: int = 4
    due_s: float = 60
    drain_timeout_s: float = 30
    log_format: LogFormat = "struct"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_subtasks: bool = False  #: one line per answer of a cache
    live_subtasks_max: int = 1_000_000  #: accepted, not yet settled; then 503
    retention_days: float = 3
    delay_ttl_s: float = 7 * 86400  #: with Redis: an unreachable cache holds nothing older than this
    listen_backlog: int = 4096
    connections_max: int = 10_000
    body_max_bytes: int = 8 * 1024 * 1024
    header_timeout_s: float = 10
    body_timeout_s: float = 30
    idle_timeout_s: float = 75
    connect_timeout_s: float = 2
    request_timeout_s: float = 5
    attempts_max: int = 5  #: of one subtask on a node that answers, but wrongly
    prefetch_concurrency: int = 8  #: per node
    prefetch_timeout_s: float = 300
    prefetch_max_bytes: int = 16 * 1024**3  #: of one object


class StoreConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[store]``: where tasks are saved. All but ``url`` is for Redis."""

    url: str = "sqlite:"
    prefix: str = "purgeline"  #: of every key
    region_count: int = 16  #: shards, each with a stream of its own; all engines need the same
    timeout_s: float = 5  #: of connecting to Redis and of its answers
    connections_max: int = 16  #: to each server
    wait_replicas: int = 0  #: replicas that must have a task before it is answered 202
    takeover_s: float = 5  #: an engine not heard of for so long is dead; others take its work over


class TokenConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[auth.tokens]]``: one client. ``sha256`` is the hex digest of its bearer token."""

    name: str
    sha256: str
    scopes: list[Scope] = msgspec.field(default_factory=lambda: ["submit", "read"])
    sites: list[str] = []  #: host rules; empty: every site
    rate_per_s: float = 0  #: tasks; 0: no limit
    burst_count: int = 0  #: 0: one second of the rate


class AuthConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth]``."""

    tokens: list[TokenConfig] = []


class SiteConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[site]]``: a host that may be purged; ``*.example.com`` takes every name below it."""

    host: str


class LayerConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[layer]]``: the order of the file is the order of work."""

    name: str


class NodeConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[node]]``: one cache."""

    name: str
    driver: Driver
    url: str
    layer: str = "edge"
    parents: list[str] | None = None  #: None: every node of the layer before
    purge_method: str = "PURGE"
    purge_path: str = ""
    key_mode: Literal["xkey", "ban", "none"] = "xkey"  #: varnish: how surrogate keys are dropped
    wildcard: bool = False  #: nginx: the purge module takes ``*`` at the end
    ca_file: str = ""  #: https: own CA, PEM
    verify: bool = True
    headers: dict[str, str] = {}  #: sent with every request, such as a shared secret


class CallbackConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[callback]]``: a host that tasks may name in ``callback``."""

    host: str
    secret: str = ""  #: signs the body: HMAC-SHA256


class AlertConfig(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[alert]``."""

    url: str = ""
    secret: str = ""
    repeat_s: float = 300  #: the same alert again at the earliest after this


class Config(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    engine: EngineConfig = EngineConfig()
    store: StoreConfig = StoreConfig()
    auth: AuthConfig = AuthConfig()
    site: list[SiteConfig] = []
    layer: list[LayerConfig] = []
    node: list[NodeConfig] = []
    callback: list[CallbackConfig] = []
    alert: AlertConfig = AlertConfig()

    def listen_address(self) -> tuple[str, int]:
        """Return host and port of ``listen``; an IPv6 host comes without its brackets."""
        host, _, port = self.engine.listen.rpartition(":")
        return host.strip("[]"), int(port)


def load(path: Path, environ: dict[str, str] | None = None) -> Config:
    """Read, check and return the configuration of *path*.

    Args:
        path: TOML file.
        environ: environment to take overrides from; default the process's.

    Raises:
        ConfigError: the file cannot be read, is not TOML, has an unknown or wrongly typed key, or
            its parts contradict each other. The text names the file, the key and what it takes.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `purgeline serve --config F` takes a TOML file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc
    try:
        _override(table, os.environ if environ is None else environ)
        return parse(table)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc.__cause__


def parse(table: dict[str, Any]) -> Config:
    """Turn a decoded TOML table into a checked `Config`.

    Raises:
        ConfigError: see `load`; without the file's name.
    """
    _refuse_unknown(table, Config, "")
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(_say_where(str(exc))) from exc
    _check(config)
    return config


def _override(table: dict[str, Any], environ: Any) -> None:
    areas: dict[str, type[_Table]] = {"engine": EngineConfig, "store": StoreConfig, "alert": AlertConfig}
    for name, text in environ.items():
        if not name.startswith("PURGELINE_") or "__" not in name:
            continue
        area, _, key = name.removeprefix("PURGELINE_").lower().partition("__")
        if area not in areas:
            raise ConfigError(f"environment {name}: no table [{area}]; known: {', '.join(areas)}")
        known = {field.name: field for field in msgspec.structs.fields(areas[area])}
        if key not in known:
            raise ConfigError(f"environment {name}: unknown key {key!r}{_nearest(key, list(known))}")
        try:
            value = msgspec.convert(text, known[key].type, strict=False)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"environment {name}: {_explain(str(exc), known[key].type)}") from exc
        section = table.setdefault(area, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{area} must be a table, written [{area}]")
        section[key] = value


_TABLES: dict[str, type[_Table]] = {
    "engine": EngineConfig,
    "store": StoreConfig,
    "auth": AuthConfig,
    "site": SiteConfig,
    "layer": LayerConfig,
    "node": NodeConfig,
    "callback": CallbackConfig,
    "alert": AlertConfig,
    "auth.tokens": TokenConfig,
}


def _refuse_unknown(table: dict[str, Any], kind: type[_Table], where: str) -> None:
    """Name an unknown key and the nearest known one; msgspec alone says only the first half."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key, value in table.items():
        if key not in known:
            place = f"[{where}] " if where else ""
            raise ConfigError(f"{place}unknown key {key!r}{_nearest(key, known)}")
        path = f"{where}.{key}" if where else key
        if path in _TABLES:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, dict):
                    _refuse_unknown(entry, _TABLES[path], path)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def _say_where(message: str) -> str:
    """``Expected `int`, got `str` - at `$.engine.due_s``` → ``engine.due_s: expected ...``."""
    text, _, path = message.partition(" - at `$.")
    path = path.rstrip("`")
    area, _, key = re.sub(r"\[.*?\]", "", path).rpartition(".")
    kinds = {field.name: field.type for field in msgspec.structs.fields(_TABLES.get(area, Config))}
    return f"{path}: {_explain(text, kinds.get(key))}" if path else message


def _explain(problem: str, kind: Any) -> str:
    """Add what a key of type *kind* takes when that is one of a few words."""
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    takes = f"; takes {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
    return f"{problem[0].lower()}{problem[1:]}{takes}"


def _check(config: Config) -> None:
    _check_engine(config)
    _check_store(config)
    _check_topology(config)
    _check_tokens(config)
    for site in config.site:
        _check_host_rule("site.host", site.host)
    for callback in config.callback:
        _check_host_rule("callback.host", callback.host)
    _check_alert(config.alert)
    _check_exposure(config)


_AT_LEAST: dict[str, float] = {
    "region_count": 1,
    "saver_count": 1,
    "saver_backlog_count": 100,
    "saver_push_timeout_s": 0,
    "pipeline_depth": 1,
    "connections_per_node": 1,
    "due_s": 0.1,
    "drain_timeout_s": 0,
    "live_subtasks_max": 1,
    "retention_days": 0,
    "listen_backlog": 1,
    "connections_max": 1,
    "body_max_bytes": 1024,
    "header_timeout_s": 0.1,
    "body_timeout_s": 0.1,
    "idle_timeout_s": 0.1,
    "connect_timeout_s": 0.01,
    "request_timeout_s": 0.01,
    "attempts_max": 1,
    "prefetch_concurrency": 1,
    "prefetch_timeout_s": 0.01,
    "prefetch_max_bytes": 1,
    "delay_ttl_s": 1,
}
_AT_LEAST_STORE: dict[str, float] = {
    "region_count": 1,
    "timeout_s": 0.1,
    "connections_max": 8,
    "wait_replicas": 0,
    "takeover_s": 1,
}
_REGIONS_MAX = 1000


def _check_engine(config: Config) -> None:
    for key, least in _AT_LEAST.items():
        value = getattr(config.engine, key)
        if not least <= value < 2**53:  # also refuses nan and inf
            raise ConfigError(f"engine.{key}: {value} is out of range, at least {least:g}")
    host, _, port = config.engine.listen.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - TCP's last port
        raise ConfigError(f"engine.listen: {config.engine.listen!r} is not HOST:PORT, such as 127.0.0.1:9181")


def _check_alert(alert: AlertConfig) -> None:
    try:
        url = urlsplit(alert.url)
    except ValueError as exc:
        raise ConfigError(f"alert.url: {alert.url!r}: {exc}") from exc
    if alert.url and (url.scheme not in {"http", "https"} or not url.hostname):
        raise ConfigError(f"alert.url: {alert.url!r} is not an http or https URL")
    if not 0 <= alert.repeat_s < 2**53:
        raise ConfigError(f"alert.repeat_s: {alert.repeat_s} is out of range, at least 0")


def _check_store(config: Config) -> None:
    store = config.store
    for key, least in _AT_LEAST_STORE.items():
        value = getattr(store, key)
        if not least <= value < 2**31:
            raise ConfigError(f"store.{key}: {value} is out of range, at least {least:g}")
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", store.prefix):
        raise ConfigError(f"store.prefix: {store.prefix!r}: use 1-64 of A-Z a-z 0-9 . _ : -")
    if config.engine.name and not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", config.engine.name):
        raise ConfigError(f"engine.name: {config.engine.name!r}: use 1-64 of A-Z a-z 0-9 . _ : -")
    if store.url.partition(":")[0] == "sqlite":
        if store.url != "sqlite:":
            raise ConfigError("store.url: 'sqlite:' takes no path; the files are under engine.data_dir")
        return
    try:
        parse_redis_url(store.url)
    except ValueError as exc:
        shown = re.sub(r"//[^/]*@", "//...@", store.url)  # a log must not show a password
        raise ConfigError(f"store.url: {shown!r}: {exc}, or 'sqlite:'") from exc
    if config.engine.saver_count != 1:
        raise ConfigError("engine.saver_count: Redis takes 1; several only pay with files")
    if store.region_count > _REGIONS_MAX:
        raise ConfigError(f"store.region_count: {store.region_count} is out of range, at most {_REGIONS_MAX}")


def _check_topology(config: Config) -> None:
    layers = [layer.name for layer in config.layer] or ["edge"]
    _refuse_duplicates("layer", layers)
    names = [node.name for node in config.node]
    _refuse_duplicates("node", names)
    by_name = {node.name: node for node in config.node}
    for name in (*layers, *names):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name {name!r}: use 1-64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    for node in config.node:
        if node.layer not in layers:
            raise ConfigError(
                f"node {node.name!r}: layer {node.layer!r} is no [[layer]]{_nearest(node.layer, layers)}"
            )
        _check_node(node)
    for node in config.node:
        for parent in node.parents or ():
            if parent not in by_name:
                raise ConfigError(
                    f"node {node.name!r}: parent {parent!r} is no [[node]]{_nearest(parent, names)}"
                )
            if layers.index(by_name[parent].layer) >= layers.index(node.layer):
                raise ConfigError(
                    f"node {node.name!r}: parent {parent!r} is in layer {by_name[parent].layer!r}, "
                    f"which is not before {node.layer!r}"
                )


def _refuse_duplicates(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} {name!r} is there twice; names are unique")


def _check_node(node: NodeConfig) -> None:
    where = f"node {node.name!r}"
    try:
        url = urlsplit(node.url)
        port = url.port
    except ValueError as exc:
        raise ConfigError(f"{where}: url {node.url!r}: {exc}") from exc
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ConfigError(f"{where}: url {node.url!r} is not http(s)://HOST[:PORT]")
    if url.path not in {"", "/"} or url.query or url.fragment or url.username is not None:
        raise ConfigError(f"{where}: url takes scheme, host and port only; purge_path takes a path")
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", node.purge_method):
        raise ConfigError(f"{where}: purge_method {node.purge_method!r} is not an HTTP method")
    if not re.fullmatch(r"(/[!-~]+)?", node.purge_path) or node.purge_path.endswith("/"):
        raise ConfigError(f"{where}: purge_path {node.purge_path!r} must start with / and not end with it")
    if node.wildcard and node.driver != "nginx":
        raise ConfigError(f"{where}: wildcard is nginx's; a {node.driver} node has none")
    if node.ca_file and not Path(node.ca_file).is_file():
        raise ConfigError(f"{where}: ca_file {node.ca_file!r} is not a file")
    for name, value in node.headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[ -~]*", value):
            raise ConfigError(f"{where}: headers: {name!r} is not a plain HTTP header")
        if name.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
            raise ConfigError(f"{where}: headers: {name!r} is set by the engine")


def _check_tokens(config: Config) -> None:
    _refuse_duplicates("token", [token.name for token in config.auth.tokens])
    for token in config.auth.tokens:
        if not re.fullmatch(r"[0-9a-f]{64}", token.sha256):
            raise ConfigError(
                f"token {token.name!r}: sha256 takes the 64 lower-case hex digits of sha256(token)"
            )
        if not token.rate_per_s >= 0 or token.burst_count < 0:
            raise ConfigError(f"token {token.name!r}: rate_per_s and burst_count are at least 0")
        for rule in token.sites:
            _check_host_rule(f"token {token.name!r}: sites", rule)


def _check_host_rule(where: str, rule: str) -> None:
    if not _HOST_RULE.fullmatch(rule):
        raise ConfigError(
            f"{where}: {rule!r} is not a host rule: example.com, *.example.com or * (lower case)"
        )


def _check_exposure(config: Config) -> None:
    """Anyone may reach a listener beyond loopback, so it needs tokens and sites."""
    host, _ = config.listen_address()
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not config.auth.tokens:
        raise ConfigError(
            f"engine.listen: {config.engine.listen} is not loopback, so [[auth.tokens]] is needed: "
            "without tokens anyone who reaches it could purge"
        )
    if not config.site and (not loopback or config.auth.tokens):
        raise ConfigError(
            "[[site]] is needed: purging any host is only for a loopback listener without tokens; "
            'host = "*" says every host on purpose'
        )
