"""What the Varnish lines of ``render --group-reports`` log, read by ``varnishlog``.

The lines write the answer of an origin as records ``purgeline-groups N TEXT``, numbered from 0, and
``purgeline-groups end`` behind the last, or ``cut`` where there was more. Records of several answers may
stand between each other: they have the number of their transaction (VXID) in front.
"""

from __future__ import annotations

import re
import subprocess
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TAG: Final = "purgeline-groups"
_ASSEMBLED_MAX: Final = 1000  #: answers of which not all records have come
_RECORD: Final = re.compile(rf"\s*([0-9]+) VCL_Log +\S {TAG} (?:([0-9]+) (.*)|(end|cut))", re.DOTALL)
_TEXT: Final = re.compile(r"(\S+\.([0-9]+)) (\S+) ([0-9]{3}) (\S+) (.*)", re.DOTALL)


class Logged(NamedTuple):
    """One answer of an origin, as it was logged."""

    id: str
    at: int  #: UNIX time, seconds
    method: str
    status: int
    host: str
    groups: str  #: value of the field
    is_cut: bool = False  #: it was longer


class Assembler:
    """Puts records together."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self.broken = 0  #: answers of which records are missing

    def read(self, line: str) -> Logged | None:
        """Return the answer whose last record *line* is; None: there is none."""
        record = _RECORD.fullmatch(line)
        if record is None:
            return None
        transaction, number, text, end = record.groups()
        if number is not None:
            self._add(transaction, int(number), text)
            return None
        texts = self._texts.pop(transaction, None)
        read = None if texts is None else _TEXT.fullmatch("".join(texts))
        if read is None:
            self.broken += 1
            return None
        groups = read[6] if end == "end" else _whole_groups(read[6])
        return Logged(read[1], int(read[2]), read[3], int(read[4]), read[5], groups, is_cut=end == "cut")

    def _add(self, transaction: str, number: int, text: str) -> None:
        texts = self._texts.setdefault(transaction, [])
        if not number:
            texts.clear()
        elif number != len(texts):
            del self._texts[transaction]  # its end will find it broken
            return
        texts.append(text)
        if len(self._texts) > _ASSEMBLED_MAX:
            del self._texts[next(iter(self._texts))]
            self.broken += 1


def _whole_groups(text: str) -> str:
    """Return a list of strings as far as it is whole: up to its last comma that is in none of them."""
    end, is_in_string, is_escaped = 0, False, False
    for place, sign in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif sign == '"':
            is_in_string = not is_in_string
        elif is_in_string:
            is_escaped = sign == "\\"
        elif sign == ",":
            end = place
    return text[:end]


class Taker(Protocol):
    """Takes what is read; called in threads."""

    def take(self, logged: Logged) -> None:
        """Take an answer that has just been logged."""

    def take_past(self, logged: Logged) -> None:
        """Take one that was logged before."""

    def begin(self) -> None:
        """All that was logged before has been taken; called each time anew."""

    def stop(self) -> None:
        """Nothing more is read, whatever ended that."""

    def say(self, text: str) -> None:
        """Tell an operator what is wrong."""


class LogReader:
    """A thread that reads what is logged, and what was, and begins again when ``varnishlog`` ends.

    Args:
        command: ``varnishlog`` with the options that choose a Varnish.
        taker: given what is read.
        pause_s: before ``varnishlog`` is started again.
    """

    def __init__(self, command: Sequence[str], taker: Taker, *, pause_s: float = 1.0) -> None:
        self._command = [*command, "-g", "raw", "-I", f"VCL_Log:^{TAG} "]
        self._taker = taker
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._thread = threading.Thread(target=self._run, name="varnishlog", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End reading; what was taken stays taken."""
        self._is_over.set()
        with self._lock:
            for process in self._running:
                process.terminate()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._read_on()
        finally:
            self._taker.stop()

    def _read_on(self) -> None:
        last = ""
        while not self._is_over.is_set():
            past = threading.Thread(target=self._read_past, daemon=True)
            past.start()
            why = self._read([], self._taker.take)
            past.join()
            if why != last and not self._is_over.is_set():
                self._taker.say(
                    f"{self._command[0]} has ended, and is started every {self._pause_s:g} s: {why}"
                )
                last = why
            self._is_over.wait(self._pause_s)

    def _read_past(self) -> None:
        """Read what was logged while nobody did, as far as the log goes back."""
        self._read(["-d"], self._taker.take_past)
        self._taker.begin()

    def _read(self, options: Sequence[str], take: Callable[[Logged], None]) -> str:
        """Read one ``varnishlog`` to its end; return what it said last on standard error."""
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, of our own words and a path
                [*self._command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as exc:
            return str(exc)
        said: list[str] = [""]
        errors = threading.Thread(target=self._read_errors, args=(process, said), daemon=True)
        with self._lock:
            self._running.add(process)
            if self._is_over.is_set():
                process.terminate()
        errors.start()
        assembler = Assembler()
        assert process.stdout is not None
        for line in process.stdout:
            logged = assembler.read(line.decode("latin-1").rstrip("\n"))
            if logged is not None:
                take(logged)
            elif assembler.broken:
                self._taker.say(f"{assembler.broken} reports are lost: records are missing in the log")
                assembler.broken = 0
        errors.join()
        process.wait()
        with self._lock:
            self._running.discard(process)
        return said[0] or f"exit code {process.returncode}"

    def _read_errors(self, process: subprocess.Popen[bytes], said: list[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if text := line.decode("latin-1").strip():
                said[0] = text
                if "overrun" in text.lower():
                    self._taker.say(f"reports may be lost: {text}")
                elif (
                    "reacquired" in text.lower()
                ):  # of a Varnish that began anew: it goes on at the end of its log
                    threading.Thread(target=self._read_past, daemon=True).start()
