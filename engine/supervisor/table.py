"""The few keys of ``[engine]`` that the supervisor needs; the engine reads and checks the rest."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .errors import USAGE, SupervisorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


DATAGRAMS: Final = "udp/"  #: before the name of a socket that takes datagrams
_OF_DATAGRAMS: Final = frozenset({"htcp"})  #: kinds of doors
_THAT_READ: Final = frozenset({"redis"})  #: kinds of doors that have no socket


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTable:
    """What the supervisor reads of ``[engine]``."""

    listen: str
    listen_backlog: int
    data_dir: str
    drain_timeout_s: float


def read_table(path: Path, *, listen: str = "") -> EngineTable:
    """Return what the supervisor needs of a configuration; the engine checks the rest.

    Args:
        path: TOML file. The environment (``PURGELINE_ENGINE__LISTEN``) overrides it, as for the engine.
        listen: overrides both.

    Raises:
        SupervisorError: it cannot be read, or one of the keys has a wrong value; names file and key.
    """
    table = _read(path).get("engine", {})
    if not isinstance(table, dict):
        raise SupervisorError(f"{path}: engine must be a table, written [engine]", exit_code=USAGE)

    try:
        return settle(table, os.environ, listen=listen)
    except ValueError as exc:
        raise SupervisorError(f"{path}: {exc}", exit_code=USAGE) from None


def read_doors(path: Path) -> list[str]:
    """Return the name of the socket of each ``[[door]]``: its ``listen``, with `DATAGRAMS` before it or not.

    Those `_THAT_READ` have none.

    Raises:
        SupervisorError: the file cannot be read, or one of them is no address.
    """
    doors = _read(path).get("door", [])
    tables = doors if isinstance(doors, list) else [doors]
    names = []
    for table in tables:
        if isinstance(table, dict) and table.get("kind") in _THAT_READ:
            continue
        listen = table.get("listen") if isinstance(table, dict) else None
        if not isinstance(listen, str) or not is_address(listen):
            text = f"{path}: door.listen: {listen!r} is not HOST:PORT, such as 127.0.0.1:9182"
            raise SupervisorError(text, exit_code=USAGE)
        names.append(f"{DATAGRAMS if table.get('kind') in _OF_DATAGRAMS else ''}{listen}")
    return names


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SupervisorError(f"{path}: no such file; --config takes a TOML file", exit_code=USAGE) from None
    except (OSError, ValueError) as exc:
        raise SupervisorError(f"{path}: cannot be read as TOML: {exc}", exit_code=USAGE) from exc


def is_address(listen: str) -> bool:
    """Tell whether a text is ``HOST:PORT``."""
    host, _, port = listen.rpartition(":")
    is_port = re.fullmatch("[0-9]{1,5}", port) is not None and int(port) <= 65535  # noqa: PLR2004 - TCP's last
    return bool(host) and is_port


def settle(table: Mapping[str, Any], environment: Mapping[str, str], *, listen: str = "") -> EngineTable:
    """Return the keys of ``[engine]`` after everything that overrides the file.

    Args:
        table: ``[engine]`` as the file has it.
        environment: ``PURGELINE_ENGINE__LISTEN`` and the like override the file.
        listen: overrides both.

    Raises:
        ValueError: a key has a wrong value; names the key.
    """

    def value_of(key: str, default: Any) -> Any:
        text = listen if key == "listen" and listen else environment.get(f"PURGELINE_ENGINE__{key.upper()}")
        value = table.get(key, default) if text is None else text
        with contextlib.suppress(ValueError):
            if text is not None or isinstance(value, int):  # 30 for 30.0
                value = type(default)(value)
        may_be_zero = key == "drain_timeout_s"
        is_usable = "\0" not in value if isinstance(value, str) else True
        if type(value) is not type(default) or not (value or may_be_zero) or not is_usable:
            raise ValueError(f"engine.{key}: {value!r} is wrong, it takes a value such as {default!r}")
        return value

    settled = EngineTable(
        listen=value_of("listen", "127.0.0.1:9181"),
        listen_backlog=value_of("listen_backlog", 4096),
        data_dir=value_of("data_dir", "var"),
        drain_timeout_s=value_of("drain_timeout_s", 30.0),
    )
    if not is_address(settled.listen):
        raise ValueError(f"engine.listen: {settled.listen!r} is not HOST:PORT, such as 127.0.0.1:9181")
    return settled
