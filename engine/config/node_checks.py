"""What a ``[[node]]`` is refused for: values out of range, settings that its cache or its URL has no use for.

Each check raises `ConfigError`; its text names the node and the key, and what the key takes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.config.places import check_server_name, check_url
from engine.config.proof_checks import check_traffic
from engine.config.tables import NodeConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RULES_KEPT_S: Final = (300, 157_680_000)  #: the plug-in's times end in 2038
_OWN_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
HOST: Final = "{host}"  #: in ``rules_url``: the host of a target
_PLAIN: Final = NodeConfig(name="", driver="ats", url="")
_PLUGIN_KEYS: Final = {
    "rules_file": "rules_state_file",
    "rules_state_file": "rules_file",
    "generation_header": "generation_secret",
    "generation_secret": "generation_header",
}
"""Of the plug-ins of ats → what each takes as well."""
_RULE_KEYS: Final = ("rules_url", "rules_result", "rules_keep_s")
_ENGINE_KEYS: Final = ("token", "token_file", "public_keys")
_CACHE_KEYS: Final = ("purge_method", "purge_path", "key_mode", "visit_url", "prefetch_statuses")
_NEVER_KEPT: Final = frozenset({304, 400, 401, 407, 408, 421, 425, 429})
"""Statuses that are about the request or the moment, not about the page."""


def check_node(node: NodeConfig) -> None:
    """Refuse *node* when its values are out of range or contradict each other.

    Raises:
        ConfigError: the first thing wrong.
    """
    where = f"node {node.name!r}"
    check_url(where, "url", node.url, "purge_path takes a path")
    if node.visit_url:
        check_url(where, "visit_url", node.visit_url)
    _check_tls(where, node)
    check_traffic(node)
    if not _TOKEN.fullmatch(node.purge_method):
        raise ConfigError(f"{where}: purge_method {node.purge_method!r} is not an HTTP method")
    if not re.fullmatch(r"(/[!-~]+)?", node.purge_path) or node.purge_path.endswith("/"):
        raise ConfigError(f"{where}: purge_path {node.purge_path!r} must start with / and not end with it")
    if node.wildcard and node.driver != "nginx":
        raise ConfigError(f"{where}: wildcard is nginx's; a {node.driver} node has none")
    _check_plugins(where, node)
    _check_engine(where, node)
    _check_headers(where, node)
    _check_prefetch_statuses(where, node.prefetch_statuses)


def refuse_duplicates(what: str, names: list[str]) -> None:
    """Refuse a name that is there twice.

    Raises:
        ConfigError: it begins with *what*.
    """
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} {name!r} is there twice; names are unique")


def _check_tls(where: str, node: NodeConfig) -> None:
    check_server_name(where, node.server_name)
    is_tls = any(url.startswith("https:") for url in (node.url, node.visit_url))
    if node.server_name and not is_tls:
        raise ConfigError(
            f"{where}: server_name is for TLS, and {node.url!r} has none: give an https:// url, "
            "or no server_name"
        )
    if node.verify is not None and node.tls_verify is not None:
        raise ConfigError(f"{where}: verify is the old name of tls_verify: give one of them")
    if node.ca_file and not Path(node.ca_file).is_file():
        raise ConfigError(f"{where}: ca_file {node.ca_file!r} is not a file")


def _check_plugins(where: str, node: NodeConfig) -> None:
    """Refuse keys of the plug-ins of ats that another cache has no use for, or that lack another key."""
    given = [key for key in (*_PLUGIN_KEYS, *_RULE_KEYS) if getattr(node, key) != getattr(_PLAIN, key)]
    if given and node.driver != "ats":
        raise ConfigError(f"{where}: {given[0]} is for plug-ins of ats; a {node.driver} node has none")
    for key, other in _PLUGIN_KEYS.items():
        if key in given and other not in given:
            raise ConfigError(f"{where}: {key} takes {other}, too: the plug-in works with both")
    for key in _RULE_KEYS:
        if key in given and "rules_file" not in given:
            raise ConfigError(f"{where}: {key} takes rules_file, too: it says how rules are written")
    _check_rules(where, node)
    _check_generation(where, node)


def _check_engine(where: str, node: NodeConfig) -> None:
    """Refuse keys of engines that a cache has no use for, and those of caches that an engine has none for."""
    given = [key for key in _ENGINE_KEYS if getattr(node, key) != getattr(_PLAIN, key)]
    if node.driver != "engine":
        if given:
            raise ConfigError(f'{where}: {given[0]} is for driver "engine"; a {node.driver} node has none')
        return
    for key in _CACHE_KEYS:
        if getattr(node, key) != getattr(_PLAIN, key):
            raise ConfigError(f"{where}: {key} is a cache's; an engine has its own for each of its nodes")
    if node.token and node.token_file:
        raise ConfigError(f"{where}: token and token_file: give one of them")
    if not re.fullmatch(r"[!-~]*", node.token):
        raise ConfigError(f"{where}: token is no bearer token: printable ASCII without spaces")
    if node.token_file and not Path(node.token_file).is_file():
        raise ConfigError(f"{where}: token_file {node.token_file!r} is not a file")
    if node.evidence == "strict" and not node.public_keys:
        raise ConfigError(
            f"{where}: public_keys takes the keys that this engine signs with: the x of each that its "
            '`GET /v1/engine/keys` shows; without them nothing proves its acks (evidence = "any" takes '
            "its word)"
        )
    for key in node.public_keys:
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", key):
            raise ConfigError(
                f"{where}: public_keys: {key!r} is no key: 43 characters, the x of one that "
                "`GET /v1/engine/keys` of that engine shows"
            )


def _check_rules(where: str, node: NodeConfig) -> None:
    for key in ("rules_file", "rules_state_file"):
        path = getattr(node, key)
        if path and not path.startswith("/"):
            raise ConfigError(f"{where}: {key} {path!r} is no absolute path, as plugin.config has it")
        if not path.isprintable() or any(each in path for each in ' #"'):
            raise ConfigError(f"{where}: {key} {path!r} is no path for plugin.config: no spaces, # or quotes")
    if node.rules_file and node.rules_file == node.rules_state_file:
        raise ConfigError(f"{where}: rules_state_file is another file than rules_file: the plug-in writes it")
    start = node.rules_url.replace(HOST, "HOST")
    if start and not re.fullmatch(r"https?://[!-z|~]*[!-.0-z|~]", start):
        raise ConfigError(
            f"{where}: rules_url {node.rules_url!r} is not how a URL begins behind remap.config, as far as "
            f"its path: http://{HOST} or http://10.0.0.9:8080; {HOST} is all that may be in braces"
        )
    if not _RULES_KEPT_S[0] <= node.rules_keep_s <= _RULES_KEPT_S[1]:
        takes = "{:g} to {:g}".format(*_RULES_KEPT_S)
        raise ConfigError(f"{where}: rules_keep_s: {node.rules_keep_s:g} is out of range, {takes}")


def _check_generation(where: str, node: NodeConfig) -> None:
    header = node.generation_header
    if header and not _TOKEN.fullmatch(header):
        raise ConfigError(f"{where}: generation_header {header!r} is not the name of a field")
    if _is_own(header):
        raise ConfigError(f"{where}: generation_header {header!r} is set by the engine: take another field")
    if not re.fullmatch(r"[!-~]*", node.generation_secret):
        raise ConfigError(
            f"{where}: generation_secret is not the value of a field that remap.config can hold: printable "
            "ASCII without spaces"
        )


def check_rules(nodes: Sequence[NodeConfig], first_layer: str) -> None:
    """Refuse what rules of several nodes must not be.

    Two nodes of one file: what one cache has read would count for the other. Misses below a parent: its
    answers may be older than the rule, so that each request would be one.

    Raises:
        ConfigError: it names the node.
    """
    seen: dict[str, str] = {}
    for node in nodes:
        has_parents = node.layer != first_layer if node.parents is None else node.parents
        if node.rules_result == "miss" and has_parents:
            raise ConfigError(
                f"node {node.name!r}: rules_result miss is for a node without parents, whose answers may be "
                'older than the rule: nothing would be kept. Leave it at "stale"'
            )
        for path in {node.rules_file, node.rules_state_file} - {""}:
            other = seen.setdefault(path, node.name)
            if other != node.name:
                raise ConfigError(f"node {node.name!r}: {path!r} is {other!r}'s, too; each cache has its own")


def _check_headers(where: str, node: NodeConfig) -> None:
    refuse_duplicates(f"{where}: header", [name.lower() for name in node.headers])
    for name, value in node.headers.items():
        if not _TOKEN.fullmatch(name) or not re.fullmatch(r"[ -~]*", value):
            raise ConfigError(f"{where}: headers: {name!r} is not a plain HTTP header")
        if _is_own(name):
            raise ConfigError(f"{where}: headers: {name!r} is set by the engine")


def _is_own(header: str) -> bool:
    return header.lower() in _OWN_HEADERS or header.lower().startswith("purgeline-")


def _check_prefetch_statuses(where: str, statuses: list[int]) -> None:
    for status in statuses:
        if not 300 <= status < 500 or status in _NEVER_KEPT:  # noqa: PLR2004 - HTTP
            never = ", ".join(str(each) for each in sorted(_NEVER_KEPT))
            raise ConfigError(
                f"{where}: prefetch_statuses: {status} is no status that a cache keeps beside 2xx: it takes "
                f"redirects and missing pages, such as [301, 404]; 300 to 499 without {never}"
            )
