"""What ``[canary]`` is refused for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.tables import Config

_LEAST_S: Final = 0.1
_PORT_MAX: Final = 65535
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+/")
_OWN_PATHS: Final = ("/v1/", "/metrics/", "/healthz/", "/readyz/", "/version/", "/openapi.json/")


def check_canary(config: Config) -> None:
    """Refuse settings of canaries that cannot work.

    Raises:
        ConfigError: the first thing wrong.
    """
    canary = config.canary
    if canary.interval_s and not _LEAST_S <= canary.interval_s < 2**31:
        takes = f"0 (no canaries) or at least {_LEAST_S:g}"
        raise ConfigError(f"canary.interval_s: {canary.interval_s} is out of range, {takes}")
    if not _PATH.fullmatch(canary.path):
        takes = "a path that begins and ends with /, such as /.well-known/purgeline/"
        raise ConfigError(f"canary.path: {canary.path!r} takes {takes}")
    if canary.path.startswith(_OWN_PATHS):
        raise ConfigError(f"canary.path: {canary.path!r} is a path of the engine's own interface")
    if not _HOST.fullmatch(canary.host):
        raise ConfigError(
            f"canary.host: {canary.host!r} takes a host in lower case, such as canary.purgeline"
        )
    if canary.listen:
        _check_listen(canary.listen, config.engine.listen)


def _check_listen(listen: str, engine_listen: str) -> None:
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) <= _PORT_MAX:
        raise ConfigError(f"canary.listen: {listen!r} is not HOST:PORT, such as 10.0.0.5:9183")
    if listen == engine_listen:
        raise ConfigError(
            f"canary.listen: {listen} is engine.listen; leave it empty for the engine's own port"
        )
