"""Open files: what an engine may need, and the limits of its processes and of its unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.doctor.check import SALT, Check, Verdict, unknown
from engine.doctor.reader import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import Config
    from engine.doctor.reader import Process

UNIT: Final = "purgeline.service"
_ALWAYS: Final = 128  #: databases, logs, sockets of its own, visits
_NEARLY: Final = 0.9
_REMEDY: Final = f"{SALT}service (engine:unit:open_files_count), then restart; without systemd: ulimit -n"


class Need(NamedTuple):
    """How many files one process may open."""

    least: int  #: for its caches and its store
    most: int  #: with all clients that it lets in


def needed(config: Config) -> Need:
    """Return what one process of an engine may open: each can have all nodes, and all clients."""
    engine = config.engine
    of_node = engine.connections_per_node + engine.prefetch_concurrency + 2  # a probe, a visit
    least = _ALWAYS + len(config.node) * of_node + config.store.connections_max
    return Need(least, least + engine.connections_max * (1 + len(config.listening_doors())))


def open_files(processes: Sequence[Process], need: Need, *, listens: bool = False) -> Check:
    """Check the limit of the engine's processes, and how near they are to it.

    Args:
        processes: those that are seen.
        need: of one process.
        listens: somebody listens on the engine's port.
    """
    known = [(one.files_max, one) for one in processes if one.files_max is not None]
    if not known:
        reason = "no engine listens here"
        if listens:
            reason = "who listens on the engine's port is another account's: ask as root, or as that account"
        return unknown("open_files", reason, limit=str(need.most))
    limit, process = min(known, key=lambda pair: pair[0] - (pair[1].files or 0))
    used = process.files
    value = f"{_shown(limit)}, {'?' if used is None else used} open"
    if used is not None and used >= _NEARLY * limit:
        reason = (
            f"process {process.pid} has nearly all of its files open: soon nothing new is accepted or sent"
        )
        return Check("open_files", Verdict.FAIL, value, str(need.most), reason, _REMEDY)
    return _compared("open_files", limit, value, need)


def unit_files(limit: int | None, need: Need) -> Check:
    """Check the limit of the unit; see `Reader.unit_files_max`."""
    if limit is None:
        reason = f"there is no unit {UNIT} here: the limit is that of whoever starts the engine"
        return unknown("unit_files", reason, limit=str(need.most))
    if not limit:
        reason = f"{UNIT} sets no LimitNOFILE: systemd's own holds, most often 1024"
        return Check("unit_files", Verdict.WARN, "unset", str(need.most), reason, _REMEDY)
    return _compared("unit_files", limit, _shown(limit), need)


def _compared(name: str, limit: int, value: str, need: Need) -> Check:
    if limit < need.least:
        reason = f"the connections to caches and store alone may take {need.least} files"
        return Check(name, Verdict.FAIL, value, str(need.most), reason, _REMEDY)
    if limit < need.most:
        reason = f"with connections_max clients at each port a process may open {need.most} files"
        return Check(name, Verdict.WARN, value, str(need.most), reason, _REMEDY)
    return Check(name, Verdict.OK, value, str(need.most))


def _shown(limit: int) -> str:
    return "unlimited" if limit >= UNLIMITED else str(limit)
