"""What is asked of the history of one file of the embedded store: see `engine.store.sqlite.history`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.store.history import BlockHead, OpenHistory
from engine.store.sqlite.history_file import HEADS
from engine.tasks.blocks import ANYBODY
from engine.tasks.hashes import CRCS, LINE_HASHES
from engine.tasks.records import ParkedRow, rows_of
from engine.tasks.segments import may_have, readable, readable_tasks
from engine.tasks.settled import Change, decode_changes, state_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.store.history import HistoryErrors, Wanted
    from engine.store.sqlite.file import DatabaseFile
    from engine.store.sqlite.history_file import HistoryFile

_JOIN: Final = "JOIN block_hashes AS h ON h.n = b.n"
_WIDE: Final = "(length(b.starts) > 0 OR b.patterns <> '[]')"
_CRCS: Final = f"b.actions & {CRCS | LINE_HASHES} <> {LINE_HASHES}"  #: those of versions before do not say
_LINES: Final = f"b.actions & {LINE_HASHES}"

_encode = msgspec.json.encode
_ANYBODY: Final = _encode([ANYBODY]).decode()
_decode_patterns = msgspec.json.Decoder(list[str]).decode


class HistoryReader:
    """The reads of `engine.store.history.History`; any thread may call them.

    Args:
        file: the history's.
        tasks: the file of the tasks, where records are until they are in a block.
    """

    def __init__(self, file: HistoryFile, tasks: DatabaseFile) -> None:
        self._file = file
        self._tasks = tasks
        self._lost_until = 0.0  # records that went into no block were created until then

    @property
    def errors(self) -> HistoryErrors:
        """See `History.errors`."""
        return self._file.errors

    def unpacked(self, words: Sequence[bytes] = ()) -> OpenHistory:
        """See `History.unpacked`."""
        found = self._tasks.query("SELECT is_change, data FROM settled ORDER BY n")
        rows = [(is_change, data) for is_change, data in found if is_change or may_have(data, words)]
        records, changes = readable(rows, self.errors.cannot_read)
        plans = dict(self._tasks.query("SELECT key, text FROM plan")) if rows else {}
        return OpenHistory(readable_tasks(records, self.errors.cannot_read), changes, plans)

    def heads(self, wanted: Wanted, after: BlockHead | None, limit: int) -> list[BlockHead]:
        """See `History.heads`."""
        named: dict[str, bytes] = {}
        of_hosts = _has_one("b.hosts", wanted.hosts, named)
        of_targets = ""
        if wanted.crcs or wanted.line_hashes:
            crcs = _has_one("h.hashes", wanted.crcs, named) or "AND 0"
            lines = _has_one("h.hashes", wanted.line_hashes, named) or "AND 0"
            of_targets = f"AND ({_WIDE if wanted.takes_wide else 0} OR {_CRCS} {crcs} OR {_LINES} {lines})"
        rows = self._file.query(
            HEADS.format(join=_JOIN, found=f"{of_hosts} {of_targets}"),
            {
                "since": wanted.since,
                "until": wanted.until,
                "after_at": float("inf") if after is None else after.last_at,
                "after_n": 0 if after is None else after.key,
                "actions": wanted.actions,
                "states": wanted.states,
                "packed": wanted.packed,
                "who": _encode(wanted.who).decode(),
                "anybody": _ANYBODY,
                "node": wanted.node,
                "limit": limit,
                **named,
            },
            # Where the hashes of one block are damaged, all others are looked into.
            spared=HEADS.format(join="", found=of_hosts),
        )
        return [
            BlockHead(key, last_at, starts, _decode_patterns(patterns))
            for key, last_at, starts, patterns in rows
        ]

    def block(self, key: int | str) -> tuple[bytes, bytes]:
        """See `History.block`."""
        rows = self._file.query(
            "SELECT hashes, body FROM block_hashes JOIN block_body USING (n) WHERE n = :n", {"n": key}
        )
        return rows[0] if rows else (b"", b"")

    def changes(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.changes`."""
        rows = self._file.query(
            "SELECT data FROM change WHERE task_id IN (SELECT value FROM json_each(:ids)) ORDER BY n",
            {"ids": _encode(task_ids).decode()},
        )
        return [one for (data,) in rows for one in decode_changes(data)]

    def states(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.states`."""
        rows = self._tasks.query(
            "SELECT id, doc->>'updated_at', doc->>'state' FROM task"
            " WHERE id IN (SELECT value FROM json_each(?))",
            _encode(task_ids).decode(),
        )
        return [Change(task_id, at, state_number(state), []) for task_id, at, state in rows]

    def waiting(self, task_id: str, _asked: Sequence[tuple[str, int, str]]) -> set[tuple[str, int, str]]:
        """See `History.waiting`."""
        rows = self._tasks.query("SELECT node, operation, target FROM parked WHERE task_id = ?", task_id)
        wide = self._tasks.query(
            "SELECT seq, 0, node, operation, target, task_id, '', parked_at, stands_for FROM host_row"
            " WHERE task_id = ?",
            task_id,
        )
        return set(rows) | {
            (one.node, one.operation, one.target) for row in wide for one in rows_of(ParkedRow(*row))
        }

    def bytes_kept(self) -> int:
        """See `History.bytes_kept`."""
        rows = self._file.query("SELECT coalesce(sum(bytes), 0) FROM block", {})
        return int(rows[0][0]) if rows else 0

    def complete_since(self) -> float:
        """See `History.complete_since`."""
        rows = self._file.query("SELECT complete_since FROM bound", {})
        return max(self._lost_until, float(rows[0][0]) if rows else 0.0)


def _has_one(column: str, sought: Sequence[bytes], named: dict[str, bytes]) -> str:
    """Return the condition that a column has one of some texts; they are added to *named*."""
    names = [f"p{len(named) + place}" for place in range(len(sought))]
    named.update(zip(names, sought, strict=True))
    return f"AND ({' OR '.join(f'instr({column}, :{name})' for name in names)})" if names else ""
