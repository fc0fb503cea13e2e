"""The wall clock of a process, wrong by as much as a test says (libfaketime)."""

from pathlib import Path


class WallClock:
    """Set by a file; the monotonic clock of the process stays the real one.

    Args:
        folder: for that file.
        offset_s: how much it is ahead.
    """

    def __init__(self, folder: Path, offset_s: int = 0) -> None:
        self._path = folder / "clock"
        self.set(offset_s)
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset_s: int) -> None:
        """Let the clock be wrong by so much from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.rename(self._path)
