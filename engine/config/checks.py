"""What a configuration with well-formed keys is refused for: values out of range, parts that contradict.

Each check raises `ConfigError`; its text names the key and what it takes.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from engine.config.alert_checks import check_alert
from engine.config.canary import check_canary
from engine.config.door_checks import check_doors
from engine.config.hints import nearest
from engine.config.node_checks import HOST, check_node, check_rules, refuse_duplicates
from engine.config.places import (
    check_host_rule,
    check_listen,
    check_networks,
    check_url,
    is_loopback,
)
from engine.config.proof_checks import check_encodings, check_proof
from engine.config.redis_url import parse_redis_url, without_password
from engine.config.tables import EngineConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.tables import Config, StoreConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  #: of a node, a layer, a group, a token
_NAME_TAKES = "use 1-64 of A-Z a-z 0-9 . _ -, a letter or digit first"

ENGINE_AT_LEAST: dict[str, float] = {
    "region_count": 1,
    "saver_count": 1,
    "saver_backlog_count": 100,
    "saver_push_timeout_s": 0,
    "pipeline_depth": 1,
    "connections_per_node": 1,
    "due_s": 0.1,
    "rebound_s": 0,
    "drain_timeout_s": 0,
    "live_subtasks_max": 1,
    "retention_days": 0,
    "history_days": 0,
    "history_max_bytes": 0,
    "listen_backlog": 1,
    "connections_max": 1,
    "body_max_bytes": 1024,
    "header_timeout_s": 0.1,
    "body_timeout_s": 0.1,
    "idle_timeout_s": 0.1,
    "connect_timeout_s": 0.01,
    "request_timeout_s": 0.01,
    "poison_after_s": 0,
    "gone_after_s": 0.1,
    "prefetch_concurrency": 1,
    "prefetch_timeout_s": 0.01,
    "prefetch_max_bytes": 1,
    "delay_ttl_s": 1,
    "delay_rows_max": 1,
}
STORE_AT_LEAST: dict[str, float] = {
    "region_count": 1,
    "timeout_s": 0.1,
    "connections_max": 8,
    "wait_replicas": 0,
    "takeover_s": 1,
}
_REGIONS_MAX = 1000
REBOUND_MAX_S = 3600  #: of ``[engine]`` and of a task


def check(config: Config) -> None:
    """Refuse *config* when its values are out of range or its parts contradict each other.

    Raises:
        ConfigError: the first thing wrong.
    """
    _check_engine(config)
    _check_store(config)
    _check_topology(config)
    _check_tokens(config)
    for site in config.site:
        check_host_rule("site.host", site.host)
        check_encodings(site)
        if not 0 <= site.confirm_over < 2**53:
            detail = f"confirm_over: {site.confirm_over} is out of range, at least 0 (never)"
            raise ConfigError(f"site {site.host!r}: {detail}")
    for callback in config.callback:
        check_host_rule("callback.host", callback.host)
    check_alert(config.alert)
    check_proof(config)
    check_canary(config)
    _check_exposure(config)
    check_doors(config)


def warnings_of(config: Config) -> list[str]:
    """Return what a checked configuration holds in vain, or what the next version refuses; a line each."""
    warnings = [
        f"token {token.name!r}: the next version refuses this name: {_NAME_TAKES}"
        for token in config.auth.tokens
        if not NAME.fullmatch(token.name)
    ]
    if config.engine.attempts_max is not None:
        warnings.append(
            "engine.attempts_max is ignored: what a cache answers wrongly is tried again; see poison_after_s"
        )
    return warnings + _rule_warnings(config) + _late_warnings(config.engine)


def _rule_warnings(config: Config) -> list[str]:
    """Return which nodes a token can purge hosts on that are not of its sites; a line each."""
    if not any(token.sites for token in config.auth.tokens):
        return []
    return [
        f"node {node.name!r}: rules_url has no {HOST}: a purge by prefix, regex or host takes the same "
        "paths of all hosts along, those that are not of the token's sites too"
        for node in config.node
        if node.rules_file and HOST not in node.rules_url
    ]


def _late_warnings(engine: EngineConfig) -> list[str]:
    """Return what retries will not know; nothing of the defaults, docs/retry.md tells of those."""
    default = EngineConfig()
    days = engine.delay_ttl_s / 86400
    is_default = (engine.history_days, engine.delay_ttl_s) == (default.history_days, default.delay_ttl_s)
    if is_default or not 0 < engine.history_days < days:
        return []
    text = (
        f"engine.history_days ({engine.history_days:g}) is shorter than engine.delay_ttl_s ({days:g} "
        "days): of a task that had failed in part before the rest waited so long a retry may not know what; "
        f"history_days = {math.ceil(days)} keeps it"
    )
    return [text]


def store_warnings(store: StoreConfig) -> list[str]:
    """Return what a store may lose of what is answered 202, as far as its configuration tells."""
    scheme = store.url.partition(":")[0]
    if scheme not in {"redis+sentinel", "redis+cluster"} or store.wait_replicas:
        return []
    text = (
        "store.wait_replicas is 0: a task is answered 202 when the master has it, and a failover loses what "
        "its replica had not got yet, most often less than a second's. Set store.wait_replicas = "
    )
    return [f'{text}"all"']


def _check_engine(config: Config) -> None:
    for key, least in ENGINE_AT_LEAST.items():
        value = getattr(config.engine, key)
        if not least <= value < 2**53:  # also refuses nan and inf
            raise ConfigError(f"engine.{key}: {value} is out of range, at least {least:g}")
    rebound_s = config.engine.rebound_s
    if rebound_s > REBOUND_MAX_S:
        raise ConfigError(f"engine.rebound_s: {rebound_s:g} is out of range, 0 (none) to {REBOUND_MAX_S}")
    if config.engine.trace_url:
        check_url("engine", "trace_url", config.engine.trace_url, "spans go to its /v1/traces")
    check_networks("engine.trusted_proxies", config.engine.trusted_proxies)
    check_listen("engine.listen", config.engine.listen)


def _check_store(config: Config) -> None:
    store = config.store
    for key, least in STORE_AT_LEAST.items():
        value = getattr(store, key)
        if value == "all":  # of wait_replicas
            continue
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
        raise ConfigError(f"store.url: {without_password(store.url)!r}: {exc}, or 'sqlite:'") from exc
    if config.engine.saver_count != 1:
        raise ConfigError("engine.saver_count: Redis takes 1; several only pay with files")
    if store.region_count > _REGIONS_MAX:
        raise ConfigError(f"store.region_count: {store.region_count} is out of range, at most {_REGIONS_MAX}")


def _check_topology(config: Config) -> None:
    layers = [layer.name for layer in config.layer] or ["edge"]
    refuse_duplicates("layer", layers)
    names = [node.name for node in config.node]
    refuse_duplicates("node", names)
    by_name = {node.name: node for node in config.node}
    groups = [group for node in config.node for group in node.groups]
    for name in (*layers, *names, *groups):
        if not NAME.fullmatch(name):
            raise ConfigError(f"name {name!r}: {_NAME_TAKES}")
    for node in config.node:
        if node.layer not in layers:
            raise ConfigError(
                f"node {node.name!r}: layer {node.layer!r} is no [[layer]]{nearest(node.layer, layers)}"
            )
        refuse_duplicates(f"node {node.name!r}: group", node.groups)
        check_node(node)
    check_rules(config.node, layers[0])
    for node in config.node:
        for parent in node.parents or ():
            if parent not in by_name:
                raise ConfigError(
                    f"node {node.name!r}: parent {parent!r} is no [[node]]{nearest(parent, names)}"
                )
            if layers.index(by_name[parent].layer) >= layers.index(node.layer):
                raise ConfigError(
                    f"node {node.name!r}: parent {parent!r} is in layer {by_name[parent].layer!r}, "
                    f"which is not before {node.layer!r}"
                )


def _check_tokens(config: Config) -> None:
    refuse_duplicates("token", [token.name for token in config.auth.tokens])
    for token in config.auth.tokens:
        if not re.fullmatch(r"[0-9a-f]{64}", token.sha256):
            raise ConfigError(
                f"token {token.name!r}: sha256 takes the 64 lower-case hex digits of sha256(token)"
            )
        if not token.rate_per_s >= 0 or token.burst_count < 0:
            raise ConfigError(f"token {token.name!r}: rate_per_s and burst_count are at least 0")
        for rule in token.sites:
            check_host_rule(f"token {token.name!r}: sites", rule)


def _check_exposure(config: Config) -> None:
    """Refuse a listener beyond loopback, which anyone may reach, without tokens and sites."""
    loopback = is_loopback(config.engine.listen)
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
