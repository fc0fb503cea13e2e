"""A recording of several workers: what becomes of it when the stream of one of them ends."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from engine.api import recording_relays
from engine.recordings.frames import Frame, encode, frames_of
from engine.recordings.tap import Recording
from engine.workers.peers import Peer, Peers
from tests.rigs.engine_in_loop import run
from tests.waiting import until

ENDED = "its stream ended before the recording did"


class Client(web.StreamResponse):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.text = b""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.text += data

    def heard(self) -> list[Frame]:
        return [frame for frame, _ in frames_of(io.BytesIO(self.text))]


@contextlib.asynccontextmanager
async def worker(
    folder: Path, speak: Callable[[web.StreamResponse], Awaitable[object]]
) -> AsyncIterator[Peer]:
    """Another worker, whose stream says what *speak* writes and ends with it."""

    async def recording(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await speak(response)
        return response

    app = web.Application()
    app.router.add_get("/worker/recording", recording)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(folder / "1.sock")).start()
        yield Peer(1, 2, str(folder / "1.sock"))
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def relayed(*workers: Peer) -> AsyncIterator[tuple[Client, Peers]]:
    """Have slot 0 of two, generation 1, hand on what *workers* say."""
    peers, client, recording = Peers(0, 2, 1), Client(), Recording()
    peers.update(workers)
    task = asyncio.create_task(recording_relays.Relays(peers, client, share=1, seconds=60).run(recording))
    try:
        yield client, peers
        recording.close()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await peers.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_relays, "_LEAVE_LIMIT_S", 0.1)
    monkeypatch.setattr(recording_relays, "_LOOK_S", 0.02)
    monkeypatch.setattr(recording_relays, "_END_LIMIT_S", 0.1)


@pytest.mark.parametrize("rest", [b"", b'{"worker":"1.2","byt'])
def test_a_stream_that_ends_while_its_worker_lives_is_told_and_opened_anew(
    tmp_path: Path, rest: bytes
) -> None:
    async def scenario() -> None:
        count = 0

        async def speak(response: web.StreamResponse) -> None:
            nonlocal count
            count += 1
            await response.write(encode(Frame("1.2", exchanges=count)) + rest)
            if count > 1:
                await asyncio.sleep(60)

        async with worker(tmp_path, speak) as peer, relayed(peer) as (client, _):
            await until(lambda: len(client.heard()) >= 3)
            first, told, second = client.heard()
            assert (first.exchanges, second.exchanges) == (1, 2)
            assert told.worker == "1.2"
            assert told.trouble.startswith("its stream broke" if rest else ENDED)

    run(scenario)


def test_a_worker_that_makes_room_for_its_successor_is_no_trouble(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def speak(response: web.StreamResponse) -> None:
            await response.write(encode(Frame("1.2")))

        async with worker(tmp_path, speak) as peer, relayed(peer, Peer(1, 3, peer.socket)) as (client, peers):
            await until(lambda: any(frame.trouble for frame in client.heard()))
            peers.update([Peer(1, 3, peer.socket)])
            assert {frame.worker for frame in client.heard() if frame.trouble} == {"1.3"}

    run(scenario)
