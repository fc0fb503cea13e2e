"""The network between two programs: a TCP proxy that a test cuts, stalls, slows or makes lose answers.

It listens on loopback and runs on a thread of its own; every method may be called from the
test's thread and has taken effect when it returns.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

CHUNK_BYTES = 65536

T = TypeVar("T")


class _Pair:
    """One client's connection and ours to the target."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far
        self.has_lost_answers = False

    def close(self) -> None:
        for writer in (self.near, self.far):
            _reset(writer)


class Proxy:
    """Passes on what comes to `port`, until told otherwise.

    Args:
        target_port: where it passes things on to, on 127.0.0.1.

    Attributes:
        port: where it listens; the same over `cut` and `heal`.
        connections: how many clients have connected so far, refused ones not counted.
        passed_bytes: from clients to the target.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.connections = 0
        self.passed_bytes = 0
        self._delay_s = 0.0
        self._loses_answers = False
        self._resets = False
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __repr__(self) -> str:
        return f"<Proxy {self.port} -> {self.target_port} [{len(self._pairs)} open of {self.connections}]>"

    @property
    def open_count(self) -> int:
        """How many clients are connected now."""
        return len(self._pairs)

    @property
    def lost_count(self) -> int:
        """How many connections have lost answers and are open."""
        return sum(pair.has_lost_answers for pair in self._pairs)

    def start(self) -> None:
        """Listen and pass on."""
        self._thread.start()
        self._flows.set()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What a test does to the network

    def cut(self) -> None:
        """Reset every connection and refuse new ones, as a host without the program does."""
        asyncio.run_coroutine_threadsafe(self._unlisten(), self._loop).result(10)

    def reset(self) -> None:
        """Reset every connection, and each new one as soon as it is made; `connections` counts them."""

        def do() -> None:
            self._resets = True
            self._close_pairs()

        self._do(do)

    def stall(self) -> None:
        """Pass nothing on and close nothing: a partition. `heal` passes on what has come meanwhile."""
        self._do(self._flows.clear)

    def lose_answers(self) -> None:
        """Pass requests on, but no answer: the target does what it was asked, and nobody is told."""

        def do() -> None:
            self._loses_answers = True

        self._do(do)

    def slow(self, delay_s: float) -> None:
        """Hold every piece of data for *delay_s* seconds, both ways."""

        def do() -> None:
            self._delay_s = delay_s

        self._do(do)

    def heal(self) -> None:
        """Pass things on as at the start. Connections that lost an answer are reset."""

        async def do() -> None:
            self._delay_s, self._loses_answers, self._resets = 0.0, False, False
            for pair in [pair for pair in self._pairs if pair.has_lost_answers]:
                pair.close()
            self._flows.set()
            if self._server is None:
                await self._listen()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    def _do(self, call: Callable[[], object]) -> None:
        async def do() -> None:
            call()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    # On the loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._close_pairs()

    async def _end(self) -> None:
        await self._unlisten()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close_pairs(self) -> None:
        for pair in self._pairs:
            pair.close()
        self._pairs.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if self._resets:
                _reset(writer)
                return
            await self._flows.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            pair = _Pair(writer, far_writer)
            self._pairs.add(pair)
            try:
                await asyncio.gather(
                    self._pump(reader, far_writer, None), self._pump(far_reader, writer, pair)
                )
            finally:
                self._pairs.discard(pair)
                pair.close()
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: _Pair | None
    ) -> None:
        """Pass on one direction until its end, which ends the other one too; *answers*: of this pair."""
        while data := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if answers is not None and self._loses_answers:
                answers.has_lost_answers = True
                continue
            if answers is None:
                self.passed_bytes += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, without the farewell of TCP."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport = writer.transport
    if isinstance(transport, asyncio.Transport):
        transport.abort()
