"""The stream of events: the engine is looked at once a second, and encoded once, however many watch.

A viewer gets the whole picture first, then what has changed (Server-Sent Events). Nothing is added to what a
viewer has not read yet: when that has gone, the viewer gets the whole picture again; when it has not gone
after `BEHIND_MAX_S`, the viewer is dropped. So what waits for a viewer is one picture, or one change.
Without viewers nothing is looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from loguru import logger

from engine.console.picture import Picture, change

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVERY_S: Final = 1.0
BEHIND_MAX_S: Final = 15.0
_LOOK_S: Final = 0.2  #: whether the engine drains
_SPARE: Final = 50  #: a look is followed by so many times what it took: it costs at most 2 % of the loop
_SPARE_MAX: Final = 3  #: times `every_s`; more would not be live
_encode = msgspec.json.encode


class Transport(Protocol):
    """The connection of a viewer; see `asyncio.Transport`."""

    def write(self, data: bytes, /) -> None:
        """Send, or keep until it can be sent."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes could not be sent yet."""

    def is_closing(self) -> bool:
        """Tell whether it has ended."""

    def abort(self) -> None:
        """End it at once."""


def event(kind: str, value: object) -> bytes:
    """Return one event; JSON has no line ends."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode(value))


def chunk(data: bytes) -> bytes:
    """Return *data* as a chunk of a body (RFC 9112, section 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Viewer:
    """One that watches.

    Attributes:
        is_over: done when the stream has ended, by whichever side.
    """

    def __init__(self, transport: Transport, *, is_chunked: bool, now: float) -> None:
        self.transport = transport
        self.is_chunked = is_chunked
        self.has_whole = False
        self.read_at = now  #: when it was seen to have read all
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Said:
    """An event in both forms, each made once."""

    def __init__(self, kind: str, value: object) -> None:
        self.plain = event(kind, value)
        self.chunked = chunk(self.plain)

    def to(self, viewer: Viewer) -> None:
        if not viewer.transport.is_closing():  # uvloop's raises when it is closed
            viewer.transport.write(self.chunked if viewer.is_chunked else self.plain)


class Feed:
    """Looks at the engine, and tells the viewers. Belongs to the loop's thread.

    Args:
        look: returns what there is to show, given the picture before.
        is_draining: tells whether the engine ends its connections.
        every_s: from one look to the next.
        behind_max_s: a viewer that has not read for so long is dropped.
    """

    def __init__(
        self,
        look: Callable[[Picture | None], Awaitable[Picture]],
        is_draining: Callable[[], bool],
        *,
        every_s: float = EVERY_S,
        behind_max_s: float = BEHIND_MAX_S,
    ) -> None:
        self._look = look
        self._is_draining = is_draining
        self._every_s = every_s
        self._behind_max_s = behind_max_s
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._picture: Picture | None = None
        self._whole: _Said | None = None  # of `_picture`, once somebody needs it

    def __len__(self) -> int:
        """Return how many watch."""
        return len(self._viewers)

    def add(self, viewer: Viewer) -> None:
        """Let one more watch, until `Viewer.is_over` is done."""
        self._viewers.add(viewer)
        if self._task is None or self._task.done():
            self._picture = self._whole = None
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._picture is not None:
            self._say_whole(viewer)

    def remove(self, viewer: Viewer) -> None:
        """Forget one that has gone."""
        self._viewers.discard(viewer)
        if not viewer.is_over.done():
            viewer.is_over.set_result(None)

    async def _run(self) -> None:
        """Look and tell while somebody watches; whatever ends this, nobody is left waiting."""
        loop = asyncio.get_running_loop()
        try:
            while self._viewers and not self._is_draining():
                began = loop.time()
                picture = await self._looked()
                if picture is not None:
                    self._tell(picture, loop.time())
                spare_s = min((loop.time() - began) * _SPARE, self._every_s * _SPARE_MAX)
                await self._wait_until(began + max(self._every_s, spare_s))
        except Exception:  # noqa: BLE001 - the page says that it is not live, and asks again
            logger.exception("the operators' page could not be told")
        finally:
            said = _Said("bye", {"reason": "the engine is draining"})
            for viewer in list(self._viewers):
                if self._is_draining():
                    said.to(viewer)
                self.remove(viewer)

    async def _looked(self) -> Picture | None:
        """Return what is to be seen; None: the engine drains, and a look may have to wait for what ends."""
        look = asyncio.ensure_future(self._look(self._picture))
        while not look.done():
            await asyncio.wait({look}, timeout=_LOOK_S)
            if self._is_draining():
                look.cancel()
                return None
        return look.result()

    async def _wait_until(self, at: float) -> None:
        """Wait for a time of the loop, or for a drain."""
        loop = asyncio.get_running_loop()
        while loop.time() < at and not self._is_draining():  # noqa: ASYNC110 - nobody tells of a drain
            await asyncio.sleep(min(_LOOK_S, max(0.0, at - loop.time())))

    def _tell(self, picture: Picture, now: float) -> None:
        before, self._picture, self._whole = self._picture, picture, None
        changed = None
        if before is not None and before.nodes is not None:
            changed = _Said("change", change(before, picture))
        for viewer in list(self._viewers):
            transport = viewer.transport
            if transport.is_closing():
                self.remove(viewer)
            elif transport.get_write_buffer_size():
                viewer.has_whole = False
                if now - viewer.read_at > self._behind_max_s:
                    transport.abort()
                    self.remove(viewer)
            else:
                viewer.read_at = now
                if viewer.has_whole and changed is not None:
                    changed.to(viewer)
                else:
                    self._say_whole(viewer)

    def _say_whole(self, viewer: Viewer) -> None:
        if self._whole is None:
            self._whole = _Said("whole", self._picture)
        self._whole.to(viewer)
        viewer.has_whole = True
