"""``key_file``: the secrets that clients sign with, a line each: a name, white space, base64."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.config.doors import HtcpDoorConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.doors import DoorConfig

SECRET_MIN_BYTES: Final = 16
_SIZE_MAX: Final = 1024 * 1024
_NAME: Final = re.compile(r"[!-~]{1,64}")
_TAKES: Final = "takes a name and a secret in base64, with white space between them"


def check_key_files(doors: Sequence[DoorConfig]) -> None:
    """Read the files of all doors.

    Raises:
        ConfigError: see `read_keys`.
    """
    for door in doors:
        if isinstance(door, HtcpDoorConfig) and door.key_file:
            read_keys(f"door {door.listen!r}", door.key_file)


def read_keys(where: str, path: str) -> dict[bytes, bytes]:
    """Return the secrets by their names.

    Args:
        where: the door, for the error.
        path: of the file.

    Raises:
        ConfigError: it cannot be read, others than its owner can, or a line of it is no key. No text tells a
            secret.
    """
    where = f"{where}: key_file {path!r}"
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _SIZE_MAX:
                raise ConfigError(f"{where} is no file of keys")
            if status.st_mode & 0o077:
                raise ConfigError(f"{where} may be read by others; chmod 600 {path}")
            text = file.read().decode("utf-8", "replace")
    except OSError as exc:
        raise ConfigError(f"{where} cannot be read: {exc.strerror or exc}") from exc
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, secret = _read_line(f"{where}, line {number}", line)
        if name in keys:
            raise ConfigError(f"{where}, line {number}: this name has been there before")
        keys[name] = secret
    if not keys:
        raise ConfigError(f"{where} has no key; a line {_TAKES}")
    return keys


def _read_line(where: str, line: str) -> tuple[bytes, bytes]:
    words = line.split()
    if len(words) != 2 or not _NAME.fullmatch(words[0]):  # noqa: PLR2004 - name and secret
        raise ConfigError(f"{where}: {_TAKES}")
    try:
        secret = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where}: the secret is not base64") from None
    if len(secret) < SECRET_MIN_BYTES:
        raise ConfigError(f"{where}: the secret has {len(secret)} octets, at least {SECRET_MIN_BYTES}")
    return words[0].encode(), secret
