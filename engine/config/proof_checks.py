"""What ``[proof]``, ``[[origin]]``, and what a node says of its visitors are refused for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.config.places import check_host_rule, check_server_name, check_url
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.tables import Config, NodeConfig, OriginConfig, SiteConfig

PROOF_AT_LEAST: Final[dict[str, float]] = {
    "sample_count": 1,
    "rate_per_s": 0.01,
    "body_max_bytes": 0,
    "objective_s": 0,
    "evidence_interval_s": 1,
}
_ENCODINGS_MAX: Final = 8


def check_proof(config: Config) -> None:
    """Refuse what proves nothing.

    Raises:
        ConfigError: the first thing wrong.
    """
    proof = config.proof
    for key, least in PROOF_AT_LEAST.items():
        value = getattr(proof, key)
        if not least <= value < 2**31:  # also refuses nan and inf
            raise ConfigError(f"proof.{key}: {value} is out of range, at least {least:g}")
    if not 0 < proof.objective_share < 1:
        shown = proof.objective_share
        raise ConfigError(
            f"proof.objective_share: {shown} is out of range, more than 0 and less than 1: 0.99"
        )
    hosts = [origin.host for origin in config.origin]
    for origin in config.origin:
        if hosts.count(origin.host) > 1:
            raise ConfigError(f"origin {origin.host!r} is there twice; hosts are unique")
        _check_origin(origin)


def check_traffic(node: NodeConfig) -> None:
    """Refuse figures of a node's visitors that cannot be.

    Raises:
        ConfigError: it names the node.
    """
    where = f"node {node.name!r}"
    if not 0 <= node.requests_per_s < 2**31:  # also refuses nan and inf
        raise ConfigError(f"{where}: requests_per_s: {node.requests_per_s} is out of range, at least 0")
    if not 0 <= node.hit_ratio <= 1:
        raise ConfigError(f"{where}: hit_ratio: {node.hit_ratio} is out of range, 0 to 1: 0.95")


def check_encodings(site: SiteConfig) -> None:
    """Refuse what is no value of ``Accept-Encoding``.

    Raises:
        ConfigError: it names the site.
    """
    where = f"site {site.host!r}: accept_encoding"
    if not 1 <= len(site.accept_encoding) <= _ENCODINGS_MAX:
        raise ConfigError(f'{where} takes 1-{_ENCODINGS_MAX} values, each is looked at: ["", "gzip"]')
    for value in site.accept_encoding:
        if not re.fullmatch(r"[ -~]{0,200}", value):
            raise ConfigError(f"{where}: {value!r} is not a value of that header, such as 'gzip, br'")


def _check_origin(origin: OriginConfig) -> None:
    check_host_rule("origin.host", origin.host)
    where = f"origin {origin.host!r}"
    check_url(where, "url", origin.url)
    check_server_name(where, origin.server_name)
    if not 0 <= origin.prefetch_per_s < 2**31:
        shown = origin.prefetch_per_s
        raise ConfigError(f"{where}: prefetch_per_s: {shown} is out of range, at least 0 (no limit)")
    if origin.ca_file and not Path(origin.ca_file).is_file():
        raise ConfigError(f"{where}: ca_file {origin.ca_file!r} is not a file")
