"""What a ``[[door]]`` of the kind ``redis`` is refused for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from engine.config.places import is_loopback_host
from engine.config.redis_url import parse_redis_url, without_password
from engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.doors import RedisDoorConfig

_AT_LEAST: Final = {"max_age_s": 0, "takeover_s": 1, "poison_max": 1, "timeout_s": 1}
_WORD: Final = re.compile(r"[!-~]{1,200}")
_SITE: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?")


def where_of(door: RedisDoorConfig) -> str:
    """Return how errors name a door: by its Redis, without the password."""
    return f"door {without_password(door.url)!r}"


def check_redis_doors(doors: Sequence[RedisDoorConfig]) -> None:
    """Refuse doors that cannot be read, or that read the same.

    Raises:
        ConfigError: it names the door by its Redis.
    """
    taken: set[tuple[str, str, str]] = set()
    for door in doors:
        where = where_of(door)
        try:
            parse_redis_url(door.url)
        except ValueError as exc:
            raise ConfigError(f"{where}: url: {exc}") from exc
        _check_names(where, door)
        for key, least in _AT_LEAST.items():
            if not least <= getattr(door, key) < 2**31:
                raise ConfigError(f"{where}: {key}: {getattr(door, key)} is out of range, at least {least}")
        place = without_password(door.url)
        ours = {(place, "stream", f"{name} of group {door.group}") for name in door.streams}
        ours |= {(place, "channel", name) for name in door.channels}
        if twice := sorted(ours & taken):
            raise ConfigError(f"{where}: {twice[0][1]} {twice[0][2]} is read by another door already")
        taken |= ours


def _check_names(where: str, door: RedisDoorConfig) -> None:
    if not door.streams and not door.channels:
        raise ConfigError(f"{where}: streams or channels is needed: the names of what it reads")
    for key in ("streams", "channels"):
        names: list[str] = getattr(door, key)
        for name in names:
            if not _WORD.fullmatch(name):
                raise ConfigError(f"{where}: {key}: {name!r}: takes 1-200 visible ASCII characters")
        if len(set(names)) != len(names):
            raise ConfigError(f"{where}: {key}: a name is there twice")
    for name in door.channels:
        if re.search(r"[*?\[]", name):
            raise ConfigError(f"{where}: channels: {name!r}: takes names of channels, no patterns")
    for key in ("group", "field", "poison"):
        if not _WORD.fullmatch(getattr(door, key)):
            raise ConfigError(f"{where}: {key}: takes 1-200 visible ASCII characters")
    if door.poison in door.streams:
        raise ConfigError(f"{where}: poison: {door.poison!r} is one of the streams that the door reads")
    for host in door.default_hosts:
        if not _SITE.fullmatch(host):
            raise ConfigError(f"{where}: default_hosts: {host!r} is not a host, such as www.example.com")


def is_local(door: RedisDoorConfig) -> bool:
    """Tell whether nobody but this machine can reach the Redis of a door, by its addresses."""
    return all(is_loopback_host(host) for host, _ in parse_redis_url(door.url).servers)
