"""Run a command as if it were typed in a terminal, and keep what it prints."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command printed, with its colours if it was a terminal's, and how it ended."""

    output: str
    exit_code: int

    @property
    def plain(self) -> str:
        """The output without colours."""
        return "\n".join(Text.from_ansi(line).plain for line in self.output.splitlines())


def run(
    argv: Sequence[str], environ: Mapping[str, str], *, cwd: Path, width: int, is_terminal: bool
) -> Printed:
    """Run *argv*; with *is_terminal* its standard output is a terminal of *width* columns."""
    if not is_terminal:
        done = subprocess.run(
            argv,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Printed(done.stdout.decode(errors="replace"), done.returncode)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    pieces: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(ours, pieces))
    try:
        try:
            reader.start()
            # Standard error stays a pipe: a progress bar would not look like much once it is over.
            done = subprocess.run(
                argv,
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_S,
                check=False,
            )
        finally:
            os.close(theirs)
            reader.join()
    finally:
        os.close(ours)
    return Printed((b"".join(pieces) + done.stderr).decode(errors="replace"), done.returncode)


def _read_all(descriptor: int, pieces: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # EIO: the last one who had the other end closed it
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
