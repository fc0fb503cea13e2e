"""The file of rules that one ATS reads, and the state file in which its plug-in says which are in force.

Several processes may write the file: the workers of an engine, and the old and the new one of a reload. One
writes at a time (a lock beside the file), keeps what others wrote, and puts the new text in its place by
renaming: the engine needs the folder writable. Of what others wrote there stay rules that have not expired,
comments, which go to the top, the file's mode, its owner where the engine may set one, and a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes.drivers.rules import MARKER, InForce, Rule, pattern_of, read_rules, read_state, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.config.tables import NodeConfig
    from engine.tasks.words import Operation


RULES_MAX: Final = 5000
"""Of one file: the plug-in goes through all of them for each hit of an object that is older than they are."""
BYTES_MAX: Final = 32 << 20  #: of either file; a full one of the longest rules has a third of that
LOCK_S: Final = 5.0
_LOCK_LOOK_S: Final = 0.05
_MODE: Final = 0o644


class Written(NamedTuple):
    """One writing of the file."""

    expiries: dict[str, int]  #: of its patterns that found room; `MARKER` is one of them
    at: int  #: UNIX seconds; what the plug-in reads before was another file
    changed_at: int  #: the file's modification time; ahead of *at* when many writings were close together


class RuleFile:
    """The two files of one node. Its calls wait for the disk, and are made by one thread at a time.

    Args:
        config: the node's table.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.path = Path(config.rules_file)
        self.state_path = Path(config.rules_state_file)
        self._url = config.rules_url
        self._result = config.rules_result.upper()
        self._keep_s = config.rules_keep_s
        self._changed_at = (
            0  #: of the last writing: whoever puts another file in its place may date that back
        )
        self._state_seen: tuple[int, ...] = ()
        self._in_force: dict[str, InForce] = {}

    def __repr__(self) -> str:
        return f"<RuleFile {self.path}>"

    def pattern_of(self, operation: Operation, target: str) -> str:
        """Return the pattern of the rule that purges *target* on this node."""
        return pattern_of(operation, target, self._url)

    def write(self, patterns: Iterable[str], now: float) -> Written:
        """Put rules for *patterns* into the file, newer than all that the plug-in may have of them.

        Those that are in the file already come first; others as long as it holds fewer than `RULES_MAX`.
        Rules that are in force and that somebody took out of the file come back: ATS would lose them at its
        next restart.

        Args:
            patterns: of `rules.pattern_of`.
            now: UNIX time.

        Raises:
            OSError: the file cannot be read or written.
            ValueError: the path is none.
            OverflowError: nothing is newer than the file's time.
        """
        with self._locked():
            text, status = self._read()
            others, found = read_rules(text)
            rules = {pattern: rule for pattern, rule in found.items() if rule.expiry > now}
            self._take_back(rules, now)
            expiries: dict[str, int] = {}
            for pattern in (MARKER, *sorted(patterns, key=lambda pattern: pattern not in rules)):
                before = rules.get(pattern)
                if before is None and len(rules) >= RULES_MAX and pattern != MARKER:
                    continue
                expiry = max(int(now + self._keep_s), before.expiry + 1 if before else 0)
                rules[pattern] = Rule(expiry, self._result)
                expiries[pattern] = expiry
            last = max(self._changed_at, int(status.st_mtime) if status else 0)
            changed_at = max(int(now), last + 1)
            self._replace(text_of(others, rules), changed_at, status)
            self._changed_at = changed_at
        return Written(expiries, int(now), changed_at)

    def rules(self) -> dict[str, Rule]:
        """Return what is in the file, by pattern.

        Raises:
            OSError: the file cannot be read.
            ValueError: the path is none.
        """
        return read_rules(self._read()[0])[1]

    def in_force(self) -> dict[str, InForce]:
        """Return what the plug-in has read, by pattern: nothing, before it wrote its state.

        Raises:
            OSError: the state cannot be read.
            ValueError: the path is none.
        """
        try:
            found = self.state_path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen != self._state_seen:
                self._in_force = read_state(_read(self.state_path)[0])
                self._state_seen = seen
        except FileNotFoundError:
            return {}
        return self._in_force

    def _take_back(self, rules: dict[str, Rule], now: float) -> None:
        with contextlib.suppress(OSError, ValueError):  # whoever looks for what is in force tells of that
            for pattern, read in self.in_force().items():
                if read.expiry > now and pattern not in rules:
                    rules[pattern] = Rule(read.expiry, read.result)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = f"{self.path}.lock"
        deadline = time.monotonic() + LOCK_S
        with Path(path).open("a") as lock:
            while not _lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, f"another process has kept it locked for {LOCK_S:g} s", path)
                time.sleep(_LOCK_LOOK_S)
            yield

    def _read(self) -> tuple[str, os.stat_result | None]:
        try:
            return _read(self.path)
        except FileNotFoundError:
            return "", None

    def _replace(self, text: str, changed_at: int, before: os.stat_result | None) -> None:
        """Put the new text in the place of the old; the plug-in counts whole seconds of *changed_at*."""
        path = Path(os.path.realpath(self.path))
        new = Path(f"{path}.new")
        with new.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            _set_mode(file.fileno(), before)
            os.fsync(file.fileno())
        os.utime(new, (changed_at, changed_at))
        new.rename(path)
        _sync_folder(path.parent)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its other end


def _read(path: Path) -> tuple[str, os.stat_result]:
    with open(path, encoding="utf-8", errors="surrogateescape", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > BYTES_MAX:
            raise OSError(errno.EFBIG, f"it has more than {BYTES_MAX} bytes", str(path))
        return file.read(BYTES_MAX), status


def _set_mode(file: int, before: os.stat_result | None) -> None:
    """Give a file the mode and the owner of the one before; where it has another owner, all may read it."""
    if before is None:
        os.fchmod(file, _MODE)
        return
    owner = before.st_uid, before.st_gid
    for user, group in ((-1, owner[1]), (owner[0], -1)):
        with contextlib.suppress(OSError):
            os.fchown(file, user, group)
    made = os.fstat(file)
    is_same = (made.st_uid, made.st_gid) == owner
    os.fchmod(file, before.st_mode & 0o777 | (0 if is_same else 0o444))


def _sync_folder(folder: Path) -> None:
    """Have the renaming survive a power cut, where the engine may read the folder."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(opened)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # some file systems cannot do it
            raise
    finally:
        os.close(opened)
