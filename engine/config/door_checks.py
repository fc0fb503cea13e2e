"""What a ``[[door]]`` is refused for."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from engine.config.cdni_checks import check_cdni
from engine.config.doors import CdniDoorConfig, HtcpDoorConfig, PurgeDoorConfig, RedisDoorConfig
from engine.config.hints import nearest
from engine.config.places import check_default_hosts, check_listen, check_networks, is_loopback
from engine.config.redis_door_checks import check_redis_doors, is_local, where_of
from engine.config.tables import address_of
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.doors import AnyDoor
    from engine.config.tables import Config

WAIT_MAX_S: Final = 60
_SKEW_MAX_S: Final = 300
_BUFFER_MIN_BYTES: Final = 64 * 1024
_BUFFER_MAX_BYTES: Final = 1024**3
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_doors(config: Config) -> None:
    """Refuse doors that cannot be opened, or that anybody could purge through.

    Raises:
        ConfigError: it names the door by its address.
    """
    taken = {("tcp", *config.listen_address()): "engine.listen"}
    for door in config.listening_doors():
        check_listen("door.listen", door.listen)
        where = f"door {door.listen!r}"
        address = (door.transport, *address_of(door.listen))
        if address in taken:
            raise ConfigError(
                f"{where}: listen is that of {taken[address]}; every door has a port of its own"
            )
        taken[address] = where
        if isinstance(door, CdniDoorConfig):
            check_cdni(where, door, config)
            continue
        if isinstance(door, PurgeDoorConfig):
            _check_purge(where, door)
        elif isinstance(door, HtcpDoorConfig):
            _check_htcp(where, door)
        _check_token(where, door, config, is_local=is_loopback(door.listen))
    redis_doors = [door for door in config.door if isinstance(door, RedisDoorConfig)]
    check_redis_doors(redis_doors)
    for redis_door in redis_doors:
        _check_token(where_of(redis_door), redis_door, config, is_local=is_local(redis_door))


def _check_purge(where: str, door: PurgeDoorConfig) -> None:
    check_networks(f"{where}: allow", door.allow)
    if bool(door.secret_header) != bool(door.secret_sha256):
        raise ConfigError(f"{where}: secret_header and secret_sha256 go together; one of them is missing")
    if door.secret_header and not _FIELD.fullmatch(door.secret_header):
        raise ConfigError(f"{where}: secret_header {door.secret_header!r} is no name of a field")
    if door.secret_header and not re.fullmatch(r"[0-9a-f]{64}", door.secret_sha256):
        raise ConfigError(f"{where}: secret_sha256 takes the 64 lower-case hex digits of sha256(secret)")
    check_default_hosts(where, door.default_hosts)
    for name in door.names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: names: {name!r} is not a name, such as varnish")
    _check_wait(where, door.wait_s)
    if not (is_loopback(door.listen) or door.allow or door.secret_header):
        raise ConfigError(
            f"{where} is not loopback, so allow or secret_header is needed: "
            "without them anyone who reaches it could purge"
        )


def _check_wait(where: str, wait_s: float) -> None:
    if not 0 < wait_s <= WAIT_MAX_S:
        raise ConfigError(
            f"{where}: wait_s: {wait_s:g} is out of range, more than 0 and at most {WAIT_MAX_S}"
        )


def _check_htcp(where: str, door: HtcpDoorConfig) -> None:
    check_networks(f"{where}: allow", door.allow)
    _check_wait(where, door.wait_s)
    if not 0 <= door.clock_skew_s <= _SKEW_MAX_S:
        raise ConfigError(f"{where}: clock_skew_s: {door.clock_skew_s:g} is out of range, 0 to {_SKEW_MAX_S}")
    least, most = _BUFFER_MIN_BYTES, _BUFFER_MAX_BYTES
    if not least <= door.receive_buffer_bytes <= most:
        detail = f"{door.receive_buffer_bytes} is out of range, {least} to {most}"
        raise ConfigError(f"{where}: receive_buffer_bytes: {detail}")
    for group in door.groups:
        _check_group(f"{where}: groups", group, address_of(door.listen)[0])
    if not (is_loopback(door.listen) or door.allow or door.key_file):
        raise ConfigError(
            f"{where} is not loopback, so allow or key_file is needed: "
            "without them anyone who reaches it could purge"
        )


def _check_group(where: str, group: str, host: str) -> None:
    try:
        address = ipaddress.ip_address(group)
    except ValueError:
        address = None
    if address is None or not address.is_multicast or "%" in group:
        raise ConfigError(f"{where}: {group!r} is no multicast group, such as 239.128.0.112")
    every = "0.0.0.0" if address.version == 4 else "::"  # noqa: PLR2004, S104 - IPv4
    if host != every:
        raise ConfigError(f"{where}: {group!r} takes a listen on every address, {every!r}")


def _check_token(where: str, door: AnyDoor, config: Config, *, is_local: bool) -> None:
    names = [token.name for token in config.auth.tokens]
    if names and not door.token:
        raise ConfigError(f"{where}: token is needed: whose sites and rate hold; known: {', '.join(names)}")
    if door.token and door.token not in names:
        raise ConfigError(f"{where}: token {door.token!r} is no [[auth.tokens]]{nearest(door.token, names)}")
    scopes = next((token.scopes for token in config.auth.tokens if token.name == door.token), ["submit"])
    if "submit" not in scopes:
        raise ConfigError(
            f"{where}: token {door.token!r} has not the scope 'submit', so nothing could be purged"
        )
    if not names and not is_local:
        raise ConfigError(
            f"{where} is not loopback, so it needs a token of [[auth.tokens]], whose sites hold"
        )
