"""What a program does to its files, call by call, as strace sees it: for a disk that forgets.

Every process and thread of the program is followed, and nothing of it is changed: what libraries write
through system calls of their own is seen, too. Only writes to mapped memory are not; `FileCalls` fails when
a file of the folder is mapped for writing that is not named as one whose content does not matter.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

_TRACED: Final = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,lseek,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "fsync,fdatasync,sync,syncfs,mmap,dup,dup2,dup3,chdir,copy_file_range,sendfile,splice"
)
_LINE: Final = re.compile(r"(\d+) +(\d+\.\d+) (.*)", re.DOTALL)
_DONE: Final = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(?:<([^>]*)>)?.* <(\d+\.\d+)>$", re.DOTALL)
_RESUMED: Final = re.compile(r"<\.\.\. \w+ resumed>")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FD: Final = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})+)>(\(deleted\))?")
_TAIL_BYTES: Final = 1024 * 1024
_UNFINISHED: Final = " <unfinished ...>"


def has_strace() -> bool:
    """Whether this machine has strace."""
    return shutil.which("strace") is not None


def traced(log: Path) -> list[str]:
    """Return the words before a command that has its calls written to *log*; it keeps its process id."""
    filters = ["--seccomp-bpf", "-e", f"trace={_TRACED}"]
    return ["strace", "-D", "-f", "-q", "-ttt", "-T", "-y", "-xx", "-s", "33554432", *filters, "-o", str(log)]


def has_ended(log: Path) -> bool:
    """Tell whether *log* has the end of the process that was traced first."""
    with log.open("rb") as file:
        process = file.read(32).split(b" ", 1)[0]
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    return any(line.startswith(process + b" ") and b" +++ " in line for line in lines)


class Call(NamedTuple):
    """One call that succeeded, or the begin of one that makes data durable."""

    kind: str  #: ``create write truncate move link remove folder sync_begins sync_ends``
    at: float  #: UNIX time at which its effect is there; of ``sync_begins`` when it began
    path: str
    offset: int = 0  #: of ``write``; the new size of ``truncate``
    data: bytes = b""
    other: str = ""  #: the new path of ``move`` and ``link``
    thread: int = 0  #: of ``sync_begins`` and ``sync_ends``


class FileCalls:
    """Reads the log of a traced program.

    Args:
        log: written by strace.
        folder: only what happens below it is of interest.
        mapped: ends of names of files that are written through memory, too, and may be lost.
    """

    def __init__(self, log: Path, folder: Path, *, mapped: Sequence[str] = ()) -> None:
        self._log = log
        self._folder = str(folder)
        self._mapped = tuple(mapped)
        self._began: dict[int, tuple[float, str]] = {}
        self._cwd = str(Path.cwd())
        self._size: dict[str, int] = {}  # of files, by path
        self._place: dict[tuple[str, int], int] = {}  # path and descriptor → where the next write goes
        self._appends: set[tuple[str, int]] = set()

    def __iter__(self) -> Iterator[Call]:
        """Yield what happened, in order."""
        with self._log.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                yield from self._read(line.rstrip("\n"))

    def _read(self, line: str) -> Iterator[Call]:
        found = _LINE.match(line)
        if found is None:
            return
        thread, at, text = int(found[1]), float(found[2]), found[3]
        if text.endswith(_UNFINISHED):
            self._began[thread] = (at, text.removesuffix(_UNFINISHED))
            if text.startswith(("fsync(", "fdatasync(")):
                yield from self._sync_begins(text, at, thread)
            return
        is_whole = True
        if text.startswith("<... "):
            began_at, begin = self._began.pop(thread, (at, ""))
            at, text, is_whole = began_at, begin + _RESUMED.sub("", text, count=1), False
        done = _DONE.match(text)
        if done is None or done[3].startswith(("-", "?")):
            return
        name, arguments = done[1], done[2]
        if is_whole and name in {"fsync", "fdatasync"}:
            yield from self._sync_begins(text, at, thread)
        act = getattr(self, f"_{name}", None)
        if act is not None:
            for call in act(arguments, int(done[3], 0)):
                yield call._replace(at=at + float(done[5]), thread=thread)

    # Paths

    def _is_ours(self, path: str) -> bool:
        return path == self._folder or path.startswith(self._folder + "/")

    def _paths(self, arguments: str) -> list[str]:
        """Return the paths that a call names, each seen from the descriptor before it."""
        paths = []
        base = self._cwd
        for found in re.finditer(f"{_FD.pattern}|{_TEXT.pattern}", arguments):
            if found[1] is not None:
                base = _plain(found[2]).decode(errors="replace")
                if found[1] == "AT_FDCWD":
                    self._cwd = base
            else:
                name = _plain(found[4] or "").decode(errors="replace")
                paths.append(os.path.normpath(os.path.join(base, name)))  # noqa: PTH118 - text of a log
                base = self._cwd
        return paths

    def _file(self, arguments: str) -> tuple[int, str]:
        """Return the descriptor that a call begins with, and its path; empty: not of interest."""
        found = _FD.match(arguments)
        if found is None or found[3]:  # a file without a name is gone after a power cut
            return -1, ""
        path = _plain(found[2]).decode(errors="replace")
        return int(found[1]), path if self._is_ours(path) else ""

    # One method a call: its arguments and what it returned

    def _openat(self, arguments: str, descriptor: int) -> Iterator[Call]:
        path = self._paths(arguments)[0]
        if not self._is_ours(path):
            return
        if "O_CREAT" in arguments:
            yield Call("create", 0, path)
        if "O_TRUNC" in arguments:
            yield self._truncated(path, 0)
        self._place[path, descriptor] = 0
        self._appends.discard((path, descriptor))
        if "O_APPEND" in arguments:
            self._appends.add((path, descriptor))

    _open = _openat

    def _creat(self, arguments: str, descriptor: int) -> Iterator[Call]:
        return self._openat(f"{arguments}, O_CREAT|O_TRUNC", descriptor)

    def _write(self, arguments: str, count: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        if path:
            key = (path, descriptor)
            place = self._size.get(path, 0) if key in self._appends else self._place.get(key, 0)
            self._place[key] = place + count
            yield self._written(path, place, _data(arguments)[:count])

    _writev = _write

    def _pwrite64(self, arguments: str, count: int) -> Iterator[Call]:
        _, path = self._file(arguments)
        if path:
            place = int(arguments.rsplit(", ", 1)[1])
            yield self._written(path, place, _data(arguments)[:count])

    _pwritev = _pwrite64

    def _pwritev2(self, arguments: str, count: int) -> Iterator[Call]:
        return self._pwrite64(arguments.rsplit(", ", 1)[0], count)

    def _written(self, path: str, place: int, data: bytes) -> Call:
        self._size[path] = max(self._size.get(path, 0), place + len(data))
        return Call("write", 0, path, place, data)

    def _truncated(self, path: str, size: int) -> Call:
        self._size[path] = size
        return Call("truncate", 0, path, size)

    def _ftruncate(self, arguments: str, _returned: int) -> Iterator[Call]:
        _, path = self._file(arguments)
        if path:
            yield self._truncated(path, int(arguments.rsplit(", ", 1)[1]))

    def _truncate(self, arguments: str, _returned: int) -> Iterator[Call]:
        [path] = self._paths(arguments)
        if self._is_ours(path):
            yield self._truncated(path, int(arguments.rsplit(", ", 1)[1]))

    def _fallocate(self, arguments: str, _returned: int) -> Iterator[Call]:
        _, path = self._file(arguments)
        _, mode, offset, length = arguments.rsplit(", ", 3)
        if path and "KEEP_SIZE" not in mode:
            yield self._truncated(path, max(self._size.get(path, 0), int(offset) + int(length)))

    def _lseek(self, arguments: str, place: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        if path:
            self._place[path, descriptor] = place
        yield from ()

    def _dup(self, arguments: str, copy: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        if path:
            self._place[path, copy] = self._place.get((path, descriptor), 0)
            if (path, descriptor) in self._appends:
                self._appends.add((path, copy))
        yield from ()

    _dup2 = _dup3 = _dup

    def _chdir(self, arguments: str, _returned: int) -> Iterator[Call]:
        [self._cwd] = self._paths(arguments)
        yield from ()

    def _rename(self, arguments: str, _returned: int) -> Iterator[Call]:
        old, new = self._paths(arguments)
        if self._is_ours(old) or self._is_ours(new):
            self._size[new] = self._size.pop(old, 0)
            for path, descriptor in list(self._place):
                if path == old:
                    self._place[new, descriptor] = self._place.pop((path, descriptor))
                    if (path, descriptor) in self._appends:
                        self._appends.add((new, descriptor))
            yield Call("move", 0, old, other=new)

    _renameat = _renameat2 = _rename

    def _link(self, arguments: str, _returned: int) -> Iterator[Call]:
        old, new = self._paths(arguments)
        if self._is_ours(new):
            self._size[new] = self._size.get(old, 0)
            yield Call("link", 0, old, other=new)

    _linkat = _link

    def _unlink(self, arguments: str, _returned: int) -> Iterator[Call]:
        [path] = self._paths(arguments)
        if self._is_ours(path):
            self._size.pop(path, None)
            yield Call("remove", 0, path)

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, arguments: str, _returned: int) -> Iterator[Call]:
        [path] = self._paths(arguments)
        if self._is_ours(path):
            yield Call("folder", 0, path)

    _mkdirat = _mkdir

    def _sync_begins(self, text: str, at: float, thread: int) -> Iterator[Call]:
        _, path = self._file(text.partition("(")[2])
        if path:
            yield Call("sync_begins", at, path, thread=thread)

    def _fsync(self, arguments: str, _returned: int) -> Iterator[Call]:
        _, path = self._file(arguments)
        if path:
            yield Call("sync_ends", 0, path)

    _fdatasync = _fsync

    def _mmap(self, arguments: str, _returned: int) -> Iterator[Call]:
        found = _FD.search(arguments)
        if found and "MAP_SHARED" in arguments and "PROT_WRITE" in arguments:
            self._refuse(_plain(found[2]).decode(errors="replace"), "mapped for writing")
        yield from ()

    def _copy_file_range(self, arguments: str, _returned: int) -> Iterator[Call]:
        for found in _FD.finditer(arguments):
            self._refuse(_plain(found[2]).decode(errors="replace"), "copied inside the kernel")
        yield from ()

    def _refuse(self, path: str, how: str) -> None:
        if self._is_ours(path) and not path.endswith(self._mapped):
            raise AssertionError(f"{path} is {how}, which is not seen here")

    _sendfile = _splice = _copy_file_range


def _plain(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _data(arguments: str) -> bytes:
    """Return the bytes that a call is given."""
    parts: list[Any] = _TEXT.findall(arguments)
    assert not any(is_cut for _, is_cut in parts), "strace cut what was written"
    return b"".join(_plain(text) for text, _ in parts)
