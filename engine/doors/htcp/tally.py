"""What became of the datagrams of one HTCP door: counted, and told in the log, many in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loguru import logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.observe.counters import Stats

TELL_EVERY_S: Final = 10.0
_LOOK_EVERY_S: Final = 1.0
_WHY_MAX_CHARS: Final = 200

ACCEPTED: Final = "accepted"  #: the purge is saved
ANSWERED: Final = "answered"  #: TST or NOP
IGNORED: Final = "ignored"  #: an answer of somebody, or a TST or NOP that wants none
ADDRESS: Final = "address"  #: not from ``allow``
UNSIGNED: Final = "unsigned"
SIGNATURE: Final = "signature"  #: does not hold
MALFORMED: Final = "malformed"
VERSION: Final = "version"  #: minor version
OPCODE: Final = "opcode"
URI: Final = "uri"  #: no URL that caches can be asked for
SITE: Final = "site"  #: not among those of the token
UNSAVED: Final = "unsaved"  #: the engine was full or could not save for too long


class Tally:
    """Counts.

    Args:
        listen: of the door.
        stats: of the engine.
        loop: the engine's.
        on_alert: told of what the kernel drops; None: another worker tells it.
    """

    def __init__(
        self,
        listen: str,
        stats: Stats,
        loop: asyncio.AbstractEventLoop,
        on_alert: Callable[[str, str, str], None] | None,
    ) -> None:
        self._listen = listen
        self._where = f"door {listen!r}"
        self._stats = stats
        self._loop = loop
        self._on_alert = on_alert
        self._refused: dict[str, list[int | str]] = {}  # outcome → how many, the last one's address and why
        self._dropped = 0
        self._look: asyncio.TimerHandle | None = None

    def count(self, outcome: str, count: int = 1) -> None:
        """Count datagrams."""
        counts = self._stats.datagrams
        counts[outcome] = counts.get(outcome, 0) + count

    def refuse(self, outcome: str, address: str, why: str = "", count: int = 1) -> None:
        """Count datagrams that are not taken, and tell of them within `TELL_EVERY_S`."""
        self.count(outcome, count)
        if not self._refused:
            self._loop.call_later(TELL_EVERY_S, self.tell)
        before = self._refused.get(outcome)
        total = count if before is None else int(before[0]) + count
        self._refused[outcome] = [total, address, why]

    def tell(self) -> None:
        """Write the line about what was refused since the last one."""
        refused, self._refused = self._refused, {}
        if not refused:
            return
        said = [
            f"{count} {outcome} (last from {address}{': ' if why else ''}{str(why)[:_WHY_MAX_CHARS]})"
            for outcome, (count, address, why) in refused.items()
        ]
        logger.warning("{}: datagrams not taken: {}", self._where, "; ".join(said))

    # What the kernel drops

    def watch(self, read: Callable[[], int]) -> None:
        """Look every second at what the kernel has dropped; *read* returns how much that is by now."""
        try:
            dropped = read()
        except OSError as exc:
            self.alert("warning", f"the kernel does not tell how many datagrams it drops: {exc.strerror}")
            return
        if dropped > self._dropped:
            self._stats.datagrams_dropped += dropped - self._dropped
            if self._look is not None:  # before the first look it was another worker's
                text = f"the kernel has dropped {dropped - self._dropped} datagrams, which nobody purges: "
                text += "more came in than the engine took (receive_buffer_bytes, net.core.rmem_max)"
                self.alert("warning", text)
            self._dropped = dropped
        self._look = self._loop.call_later(_LOOK_EVERY_S, self.watch, read)

    def alert(self, level: str, text: str) -> None:
        """Tell what an operator should know, unless another worker does."""
        if self._on_alert is not None:
            self._on_alert(f"htcp:{self._listen}", level, f"{self._where}: {text}")

    def close(self) -> None:
        """End the looks, and tell what there is to tell. Safe to call again."""
        if self._look is not None:
            self._look.cancel()
        self.tell()
