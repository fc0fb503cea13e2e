"""Configuration: one TOML file plus environment overrides, checked whole before anything starts.

No other module of the engine reads configuration files or the environment.

An environment variable ``PURGELINE_<TABLE>__<KEY>`` (``PURGELINE_ENGINE__LISTEN``) overrides a
scalar of the tables ``engine``, ``store`` and ``alert``.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from engine.config.checks import check
from engine.config.doors import DOORS
from engine.config.hints import explain, nearest, say_where
from engine.config.parents import with_parents
from engine.config.tables import TABLES, AlertConfig, Config, EngineConfig, StoreConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.config.table import Table

_AREAS: dict[str, type[Table]] = {"engine": EngineConfig, "store": StoreConfig, "alert": AlertConfig}
"""Tables whose keys the environment may override."""


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


def load_defaults(data_dir: Path, environ: dict[str, str] | None = None) -> Config:
    """Return the configuration of an engine that has no file, and so no nodes.

    Args:
        data_dir: folder of its data.
        environ: as of `load`.

    Raises:
        ConfigError: the environment has a wrong value.
    """
    table: dict[str, Any] = {"engine": {"data_dir": str(data_dir)}}
    _override(table, os.environ if environ is None else environ)
    return parse(table)


def parse(table: dict[str, Any]) -> Config:
    """Turn a decoded TOML table into a checked `Config`, in which every node has its parents.

    Raises:
        ConfigError: see `load`; without the file's name.
    """
    _refuse_unknown(table, Config, "")
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(say_where(str(exc))) from exc
    check(config)
    return with_parents(config)


def _override(table: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put the environment's values into *table*, each as the type of its key."""
    for name, text in environ.items():
        if not name.startswith("PURGELINE_"):
            continue
        if "__" not in name:
            _refuse_near_miss(name)
            continue
        area, _, key = name.removeprefix("PURGELINE_").lower().partition("__")
        if area not in _AREAS:
            raise ConfigError(f"environment {name}: no table [{area}]; known: {', '.join(_AREAS)}")
        known = {field.name: field for field in msgspec.structs.fields(_AREAS[area])}
        if key not in known:
            raise ConfigError(f"environment {name}: unknown key {key!r}{nearest(key, sorted(known))}")
        try:
            value = msgspec.convert(text, known[key].type, strict=False)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"environment {name}: {explain(str(exc), known[key].type)}") from exc
        section = table.setdefault(area, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{area} must be a table, written [{area}]")
        section[key] = value


def _refuse_near_miss(name: str) -> None:
    """Refuse a variable that names a table, or a table and its key, with a part of the ``__`` missing.

    Others that begin alike are not for the engine: the command line has some, and a Kubernetes service called
    purgeline sets PURGELINE_PORT and the like.
    """
    words = name.removeprefix("PURGELINE_").lower()
    for area, kind in _AREAS.items():
        keys = [field.name for field in msgspec.structs.fields(kind)]
        key = words.removeprefix(f"{area}_")
        if words == area or (key != words and key in keys):
            meant = f"PURGELINE_{area}__{keys[0] if words == area else key}".upper()
            raise ConfigError(f"environment {name}: takes two underscores behind the table, such as {meant}")


def _refuse_unknown(table: dict[str, Any], kind: type[Table], where: str) -> None:
    """Name an unknown key and the nearest known one; msgspec alone says only the first half."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    known += [tag] if (tag := kind.__struct_config__.tag_field) else []
    for key, value in table.items():
        if key not in known:
            place = f"[{where}] " if where else ""
            raise ConfigError(f"{place}unknown key {key!r}{nearest(key, sorted(known))}")
        path = f"{where}.{key}" if where else key
        if path in TABLES:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, dict):
                    _refuse_unknown(entry, _table_of(path, entry), path)


def _table_of(path: str, entry: dict[str, Any]) -> type[Table]:
    if path != "door":
        return TABLES[path]
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in DOORS:
        said = f"{kind!r} is no kind of door" if "kind" in entry else "is needed"
        raise ConfigError(f"[door] kind: {said}{nearest(str(kind), sorted(DOORS))}")
    return DOORS[kind]
