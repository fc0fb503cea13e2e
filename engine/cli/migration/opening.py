"""From a URL on the command line to a side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.cli.migration.embedded import EmbeddedSide
from engine.cli.migration.shared import SharedSide
from engine.config.redis_url import SCHEMES, without_password
from engine.errors import ConfigError, StoreError
from engine.store.history import HistoryLimits
from engine.store.layout import LAYOUT, check_layout
from engine.store.redis.open import redis_store
from engine.store.sqlite.store import SqliteStore
from engine.tasks.shards import shard_of, slot_of

if TYPE_CHECKING:
    from pathlib import Path

    from engine.cli.migration.side import Side
    from engine.config.tables import Config

_LAYOUT = re.compile(r"workers=(\d+) saver_count=(\d+)\s*")


def open_side(url: str, config: Config, folder: Path, *, is_target: bool, workers: int | None = None) -> Side:
    """Return the side that *url* names, not open yet.

    Args:
        url: ``sqlite:`` for the files in *folder*, ``sqlite:DIR`` for those of another folder, or a Redis.
        config: of the engine; the target gets its number of savers or regions, and ``[store]`` holds for it.
        folder: the engine's ``data_dir``.
        is_target: it may be made.
        workers: of the engine that a target of files is for; None: 1, unless there are files already.

    Raises:
        ConfigError: the URL is not known.
        StoreError: there is no store, or the target is of another number of files.
    """
    scheme, _, rest = url.partition(":")
    if scheme in SCHEMES:
        try:
            store = redis_store(
                url,
                "migrate",
                region_count=config.store.region_count,
                prefix=config.store.prefix,
                timeout_s=config.store.timeout_s,
                connections_max=config.store.connections_max,
                wait_replicas=config.store.wait_replicas,
                retention_s=config.engine.retention_days * 86400,
                history=_limits(config, 1),
            )
        except ValueError as exc:
            raise ConfigError(f"{without_password(url)!r}: {exc}") from exc
        store.is_read_whole = True
        return SharedSide(url, store)
    if scheme != "sqlite":
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(f"{without_password(url)!r} is no store; known: sqlite:, sqlite:DIR, {known}")
    place = folder / rest if rest else folder
    if is_target and (workers is not None or not (place / LAYOUT).exists()):
        check_layout(place, workers or 1, config.engine.saver_count)
    slots, savers = _layout(place)
    files = range(slots * savers)
    limits: HistoryLimits | None = _limits(config, len(files))
    if not is_target and not (place / "history-0.db").exists():
        limits = None  # else one would be made
    stores = [SqliteStore(place / f"tasks-{number}.db", history=limits) for number in files]

    def of(task_id: str) -> int:
        slot = slot_of(task_id, slots) if slots > 1 else 0
        return slot * savers + (shard_of(task_id, savers) if savers > 1 else 0)

    return EmbeddedSide(url, stores, of)


def _limits(config: Config, files: int) -> HistoryLimits:
    return HistoryLimits(config.engine.history_days * 86400, config.engine.history_max_bytes // files)


def _layout(place: Path) -> tuple[int, int]:
    """Return how many workers and savers the files are of."""
    path = place / LAYOUT
    if not path.exists():
        raise StoreError(f"{place}: there is no embedded store (no {path.name} file)")
    try:
        layout = _LAYOUT.fullmatch(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path}: cannot be read: {exc}") from exc
    if layout is None:
        raise StoreError(f"{path}: is not what an engine writes there")
    return int(layout[1]), int(layout[2])
