"""An outbox: tasks that no engine took, a file each, until somebody sends them (`sending`).

A task is kept when `Outbox.put` returns: its file was written beside, synced, renamed, the folder synced.
Whatever dies in between leaves a file with a dot in front, which is no task, and which the next one removes.
What an engine refused for good lies in ``refused/``, with the reason, and holds up nobody.

`put` holds a lock on the folder for as long as it writes; whoever sends holds one on ``refused/``. Both go
with their process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.base.durable import sync_folder, sync_name_of
from engine.client.bodies import IDS, is_task_id
from engine.client.errors import DamagedEntryError, OutboxError, OutboxFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MAX = 10_000
BYTES_MAX = 256 * 1024 * 1024
LOCK_WAIT_S = 5.0  #: for the lock of another `put`, which takes a few syncs
_SUFFIX = ".task"
_LOCK_POLL_S = 0.01


class Entry(NamedTuple):
    """One task of an outbox. Names sort by age."""

    path: Path
    task_id: str
    kept_at: float  #: UNIX seconds
    size: int  #: bytes of its file


class Outbox:
    """Tasks in a folder; of any number of threads and processes of one account.

    Args:
        folder: made when it is not there; nobody but its owner may write into it.
        entries_max: tasks it may have, those that were refused among them.
        bytes_max: bytes of their files.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.refused_folder = self.folder / "refused"
        self._entries_max = entries_max
        self._bytes_max = bytes_max

    def __repr__(self) -> str:
        return f"<Outbox {self.folder}>"

    def put(self, task_id: str, body: bytes) -> Path:
        """Keep a task; it is on disk when this returns. The same task again is kept once.

        Args:
            task_id: of its body.
            body: JSON, as it is to be sent.

        Raises:
            OutboxFullError: there are as many tasks, or bytes, as there may be.
            OutboxError: the folder cannot be written. After either, the task is not kept.
        """
        if not is_task_id(task_id):
            raise OutboxError(f"outbox {self.folder}: {task_id!r} is no task id: {IDS}; it is stored nowhere")
        try:
            self._make()
            with self._locked(self.folder) as folder:
                return self._write(folder, task_id, body)
        except OSError as exc:
            raise OutboxError(
                f"outbox {self.folder}: {_reason(exc)}; task {task_id} is stored nowhere"
            ) from exc

    def entries(self) -> list[Entry]:
        """Return what waits, oldest first.

        Raises:
            OutboxError: the folder cannot be read. One that is not there has nothing.
        """
        return self._listed(self.folder)

    def is_empty(self) -> bool:
        """Return whether nothing waits, as far as can be seen."""
        try:
            with os.scandir(self.folder) as files:
                return not any(_is_entry(file.name) for file in files)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # whoever sends is told why

    def refused(self) -> list[Entry]:
        """Return what an engine refused for good, oldest first; errors as `entries`."""
        return self._listed(self.refused_folder)

    def read(self, entry: Entry) -> dict[str, Any]:
        """Return an entry's ``body`` (text), and of a refused one ``status`` and ``reason``.

        Raises:
            DamagedEntryError: the file is none that `put` wrote.
            OSError: it cannot be read; FileNotFoundError: somebody else has removed it.
        """
        try:
            document = json.loads(entry.path.read_bytes())
        except ValueError as exc:
            raise DamagedEntryError(f"{entry.path} is damaged: {exc}") from exc
        if not isinstance(document, dict) or not isinstance(document.get("body"), str):
            raise DamagedEntryError(f"{entry.path} is damaged: it has no body")
        return document

    def remove(self, entry: Entry) -> None:
        """Remove an entry; `settle` makes that outlive a power cut."""
        entry.path.unlink(missing_ok=True)

    def settle(self) -> None:
        """Sync what was removed. An entry that comes back is sent again, which its id makes harmless."""
        sync_folder(self.folder)

    def set_aside(self, entry: Entry, reason: str, *, status: int = 0) -> None:
        """Move an entry to ``refused/``, with the reason.

        Raises:
            OSError: it cannot be written there; the entry stays where it is.
        """
        try:
            document = self.read(entry)
        except DamagedEntryError:
            os.rename(entry.path, self.refused_folder / entry.path.name)  # noqa: PTH104 - as it is
        else:
            content = json.dumps({**document, "status": status, "reason": reason}).encode()
            with self._opened(self.refused_folder) as folder:
                _write_durably(folder, self.refused_folder / entry.path.name, content)
            self.remove(entry)
        sync_folder(self.refused_folder)
        self.settle()

    def restore(self) -> int:
        """Have all that was refused wait again, and return how many that is.

        Raises:
            OSError: they cannot be moved.
        """
        entries = self.refused()
        for entry in entries:
            os.rename(entry.path, self.folder / entry.path.name)  # noqa: PTH104 - as above
        if entries:
            sync_folder(self.folder)
            sync_folder(self.refused_folder)
        return len(entries)

    @contextlib.contextmanager
    def sending(self) -> Iterator[bool]:
        """Be the one that sends, for as long as this is entered; gives False while somebody else is.

        Raises:
            OSError: the folder cannot be opened, or is one that others may write into.
        """
        self._make()
        with self._opened(self.refused_folder) as folder:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            _remove_unfinished(self.refused_folder)
            yield True

    def _make(self) -> None:
        if not self.refused_folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.refused_folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.folder)
            sync_name_of(self.folder)
        status = self.folder.stat()
        if status.st_uid not in {os.geteuid(), 0} and os.geteuid() != 0:
            raise PermissionError(0, f"the folder belongs to account {status.st_uid}; use one of your own")
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise PermissionError(0, f"other accounts may write there; chmod 700 {self.folder}")

    @contextlib.contextmanager
    def _opened(self, folder: Path) -> Iterator[int]:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[int]:
        """Open a folder with a lock on it, and give its descriptor."""
        deadline = time.monotonic() + LOCK_WAIT_S
        with self._opened(path) as folder:
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(0, f"another process has held it for {LOCK_WAIT_S:g} s") from None
                    time.sleep(_LOCK_POLL_S)
            yield folder

    def _write(self, folder: int, task_id: str, body: bytes) -> Path:
        """Write an entry; under the lock, where a file with a dot in front is of nobody who lives."""
        _remove_unfinished(self.folder)
        waiting = self.entries()
        for entry in waiting:
            if entry.task_id == task_id and self._is_of(entry, body):
                sync_folder(self.folder)  # whoever put it may not have come so far
                return entry.path
        size = len(body)
        kept = [*waiting, *self.refused()]
        if len(kept) >= self._entries_max or sum(entry.size for entry in kept) + size > self._bytes_max:
            raise OutboxFullError(
                f"outbox {self.folder} is full: it has {len(kept)} tasks (at most {self._entries_max}), "
                f"{sum(entry.size for entry in kept)} bytes (at most {self._bytes_max}); send them, or drop "
                f"some (purgeline outbox); task {task_id} is stored nowhere"
            )
        now = time.time_ns()
        after = int(waiting[-1].path.name.partition("-")[0]) + 1 if waiting else 0  # clocks are set back
        path = self.folder / f"{max(now, after):020d}-{task_id}{_SUFFIX}"
        document = {"format": 1, "id": task_id, "kept_at": now / 1e9, "body": body.decode()}
        _write_durably(folder, path, json.dumps(document, ensure_ascii=False).encode())
        return path

    def _is_of(self, entry: Entry, body: bytes) -> bool:
        try:
            return bool(self.read(entry)["body"] == body.decode())
        except (OSError, DamagedEntryError):
            return False

    def _listed(self, folder: Path) -> list[Entry]:
        try:
            with os.scandir(folder) as files:
                found = [entry for file in files if (entry := _entry_of(file)) is not None]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise OutboxError(f"outbox {folder} cannot be read: {_reason(exc)}") from exc
        return sorted(found)


def _entry_of(file: os.DirEntry[str]) -> Entry | None:
    """Return an entry; None for what is none, or has gone meanwhile."""
    if not _is_entry(file.name):
        return None
    number, _, rest = file.name.partition("-")
    try:
        size = file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
    return Entry(Path(file.path), rest.removesuffix(_SUFFIX), int(number) / 1e9, size)


def _is_entry(name: str) -> bool:
    return name.endswith(_SUFFIX) and name.partition("-")[0].isdecimal()


def _remove_unfinished(folder: Path) -> None:
    """Remove what writers left that did not live to the rename."""
    with os.scandir(folder) as files:
        unfinished = [
            file.path for file in files if file.name.startswith(".") and file.name.endswith(_SUFFIX)
        ]
    for path in unfinished:
        os.unlink(path)  # noqa: PTH108 - as scandir gives it


def _write_durably(folder: int, path: Path, content: bytes) -> None:
    """Have a file, 0600, on disk under its name, whole or not at all.

    Raises:
        OSError: it is not there, or not surely.
    """
    unfinished = path.with_name(f".{path.name}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:  # whoever sends is the folder's account
                owner = os.fstat(folder)
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(unfinished, path)  # noqa: PTH104 - beside os.open
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)  # noqa: PTH108 - as above
        raise
    os.fsync(folder)


def _reason(exc: OSError) -> str:
    return exc.strerror or str(exc)
