"""What a ``[[door]]`` of kind ``cdni`` is refused for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from engine.config.hints import nearest
from engine.config.places import check_default_hosts, check_networks, check_url, is_loopback
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.doors import CdniDoorConfig
    from engine.config.tables import Config

_PID: Final = re.compile(r"AS[0-9]{1,10}:[!-~]{1,64}")


def check_cdni(where: str, door: CdniDoorConfig, config: Config) -> None:
    """Refuse a door that cannot be opened, or whose clients nobody could tell apart.

    Raises:
        ConfigError: it begins with *where*.
    """
    if door.token:
        raise ConfigError(
            f"{where}: token: a door of this kind takes the token, or the certificate, that each client has"
        )
    if not _PID.fullmatch(door.cdn_id):
        raise ConfigError(f"{where}: cdn_id: {door.cdn_id!r} is no CDN Provider ID, such as AS64496:0")
    if door.url:
        check_url(where, "url", door.url, "the path is /triggers")
    check_networks(f"{where}: allow", door.allow)
    check_default_hosts(where, door.default_hosts)
    if door.stale_resource_s < 1:
        raise ConfigError(f"{where}: stale_resource_s: {door.stale_resource_s} is out of range, at least 1")
    if not config.auth.tokens and not is_loopback(door.listen):
        raise ConfigError(f"{where} is not loopback, so its clients need [[auth.tokens]]")
    _check_certificates(where, door, config)


def _check_certificates(where: str, door: CdniDoorConfig, config: Config) -> None:
    if not door.cert_file and (door.key_file or door.client_ca_file):
        raise ConfigError(f"{where}: key_file and client_ca_file take a cert_file")
    if door.certificates and not door.client_ca_file:
        raise ConfigError(f"{where}: certificates takes a client_ca_file: anybody could name himself so")
    known = [token.name for token in config.auth.tokens]
    for name, token in door.certificates.items():
        if token not in known:
            raise ConfigError(
                f"{where}: certificates: {name!r}: {token!r} is no [[auth.tokens]]{nearest(token, known)}"
            )
