"""The wall clock of a process, wrong by as much as a test says (libfaketime)."""

from pathlib import Path


def wrong_clock(offset_s: int) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead by so much, or right; it starts sooner so."""
    return {**_env(), "FAKETIME": f"{offset_s:+d}"} if offset_s else {}


def _env() -> dict[str, str]:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class WallClock:
    """Set by a file; the monotonic clock of the process stays the real one.

    Args:
        folder: for that file.
        offset_s: how much it is ahead.
    """

    def __init__(self, folder: Path, offset_s: int = 0) -> None:
        self._path = folder / "clock"
        self.set(offset_s)
        self.env = {**_env(), "FAKETIME_TIMESTAMP_FILE": str(self._path), "FAKETIME_NO_CACHE": "1"}

    def set(self, offset_s: int) -> None:
        """Let the clock be wrong by so much from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.rename(self._path)
