"""A disk that forgets what was not synced, made from what a program did to its files.

`ForgetfulDisk` follows the calls of `syscalls.FileCalls` and knows at each moment what is durable: the bytes
of a file as of its last fsync or fdatasync, the entries of a folder as of the folder's own. `restore` writes
down what a power cut at this moment may leave: nothing else, everything else, or some of it in any order,
with writes torn at sectors. That is less than a journaling file system keeps: with ext4, xfs or btrfs the
fsync of a new file keeps its name, too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

    from tests.rigs.syscalls import Call

SECTOR_BYTES: Final = 512


class Left(enum.Enum):
    """What a power cut leaves of what was not synced."""

    NOTHING = "nothing"
    SOME = "some"  #: of the writes and of the changes of folders each or not, writes torn at sectors
    ORDERED = "ordered"  #: as `SOME`, but of a folder's changes the first ones: as journaling file systems do
    ALL = "all"  #: as after a kill


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  #: offset and data; None: a size

    def sync(self, count: int) -> None:
        for offset, data in self.pending[:count]:
            _apply(self.durable, offset, data)
        del self.pending[:count]

    def left(self, left: Left, rng: random.Random) -> bytes:
        content = bytearray(self.durable)
        if left is Left.NOTHING:
            return bytes(content)
        for offset, data in self.pending:
            if left is Left.ALL:
                _apply(content, offset, data)
            elif data is None:
                if rng.random() < 0.5:
                    _apply(content, offset, data)
            else:
                _apply_some(content, offset, data, rng)
        return bytes(content)


_Change = dict[str, "_File | _Folder | None"]  #: name → what it is now; None: it is gone


@dataclass
class _Folder:
    now: dict[str, _File | _Folder] = field(default_factory=dict)
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    def change(self, change: _Change) -> None:
        _change(self.now, change)
        self.pending.append(change)

    def sync(self, count: int) -> None:
        for change in self.pending[:count]:
            _change(self.durable, change)
        del self.pending[:count]

    def left(self, left: Left, rng: random.Random) -> dict[str, _File | _Folder]:
        entries = dict(self.durable)
        if left is Left.ORDERED:
            kept = self.pending[: rng.randint(0, len(self.pending))]
        elif left is Left.SOME:
            kept = [change for change in self.pending if rng.random() < 0.5]
        else:
            kept = self.pending if left is Left.ALL else []
        for change in kept:
            _change(entries, change)
        return entries


class ForgetfulDisk:
    """The state of one folder.

    Args:
        folder: empty when the calls begin.
        is_lying: a disk that syncs nothing at all, to see that the loss is found.
    """

    def __init__(self, folder: Path, *, is_lying: bool = False) -> None:
        self.folder = folder
        self._is_lying = is_lying
        self._root = _Folder()
        self._syncs: dict[int, tuple[_File | _Folder, int]] = {}  # thread → what it syncs, and how much

    def apply(self, call: Call) -> None:
        """Note what a call did."""
        getattr(self, f"_{call.kind}")(call)

    def restore(self, folder: Path, left: Left, rng: random.Random) -> None:
        """Write what a power cut would leave now to *folder*, which is new."""
        _save(self._root, folder, left, rng)

    def sync_all(self) -> None:
        """Make everything durable that there is."""
        _sync_all(self._root)

    # Where something is

    def _folder_of(self, path: str) -> tuple[_Folder, str]:
        parts = Path(path).relative_to(self.folder).parts
        folder = self._root
        for name in parts[:-1]:
            inner = folder.now[name]
            assert isinstance(inner, _Folder)
            folder = inner
        return folder, parts[-1]

    def _node(self, path: str) -> _File | _Folder:
        if path == str(self.folder):
            return self._root
        folder, name = self._folder_of(path)
        return folder.now[name]

    def _file(self, path: str) -> _File:
        file = self._node(path)
        assert isinstance(file, _File), path
        return file

    # Calls

    def _create(self, call: Call) -> None:
        folder, name = self._folder_of(call.path)
        if name not in folder.now:
            folder.change({name: _File()})

    def _folder(self, call: Call) -> None:
        folder, name = self._folder_of(call.path)
        folder.change({name: _Folder()})

    def _write(self, call: Call) -> None:
        self._file(call.path).pending.append((call.offset, call.data))

    def _truncate(self, call: Call) -> None:
        self._file(call.path).pending.append((call.offset, None))

    def _remove(self, call: Call) -> None:
        folder, name = self._folder_of(call.path)
        if name in folder.now:  # not a socket
            folder.change({name: None})

    def _move(self, call: Call) -> None:
        old_folder, old = self._folder_of(call.path)
        new_folder, new = self._folder_of(call.other)
        node = old_folder.now[old]
        if old_folder is new_folder:
            old_folder.change({old: None, new: node})
        else:
            new_folder.change({new: node})
            old_folder.change({old: None})

    def _link(self, call: Call) -> None:
        folder, name = self._folder_of(call.other)
        folder.change({name: self._node(call.path)})

    def _sync_begins(self, call: Call) -> None:
        node = self._node(call.path)
        self._syncs[call.thread] = (node, len(node.pending))

    def _sync_ends(self, call: Call) -> None:
        node, count = self._syncs.pop(call.thread)
        if not self._is_lying:
            node.sync(count)


def _change(entries: dict[str, _File | _Folder], change: _Change) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write *data*, or with None make the content *offset* bytes long."""
    if data is None:
        if offset < len(content):
            del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _apply_some(content: bytearray, offset: int, data: bytes, rng: random.Random) -> None:
    """Write all of *data*, none, or each of its sectors or not."""
    fate = rng.random()
    if fate < 0.4:
        _apply(content, offset, data)
    elif fate < 0.6:
        end = offset + len(data)
        at = offset
        while at < end:
            stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if rng.random() < 0.5:
                _apply(content, at, data[at - offset : stop - offset])
            at = stop


def _sync_all(node: _File | _Folder) -> None:
    node.sync(len(node.pending))
    if isinstance(node, _Folder):
        for inner in node.now.values():
            _sync_all(inner)


def _save(root: _Folder, folder: Path, left: Left, rng: random.Random) -> None:
    folder.mkdir()
    for name, node in root.left(left, rng).items():
        if isinstance(node, _File):
            (folder / name).write_bytes(node.left(left, rng))
        else:
            _save(node, folder / name, left, rng)
