"""The listening socket."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.intake.listener import Listener


class Greeter(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


@asynccontextmanager
async def listening(backlog: int = 1024) -> AsyncIterator[int]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    port = int(sock.getsockname()[1])
    listener = Listener(sock, Greeter)
    listener.start()
    try:
        yield port
    finally:
        listener.close()
        listener.close()


async def greeted(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 10), 10)


async def test_all_that_wait_are_taken_in_one_turn_of_the_loop() -> None:
    """The server of libuv takes one a turn; under load the last of many would wait for seconds."""
    async with listening() as port:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]  # nothing accepts yet
        turns = 0
        for client in clients:
            client.setblocking(False)
        while len(asyncio.all_tasks()) < 100 and turns < 10:
            await asyncio.sleep(0)
            turns += 1
        assert turns < 10
        for client in clients:
            assert await greeted(client) == b"hello"
            client.close()


async def test_no_answer_waits_for_the_acknowledgement_of_the_one_before() -> None:
    """The option is set once: Linux hands it on to each connection, whatever the loop sets itself."""
    opened: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            opened.set_result(transport.get_extra_info("socket"))

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        listener = Listener(sock, Noting)
        listener.start()
        client = socket.create_connection(sock.getsockname())
        server = await asyncio.wait_for(opened, 10)
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        client.close()
        listener.close()


async def test_out_of_files_is_waited_out_and_nobody_is_turned_away() -> None:
    """Without a free descriptor connections stay in the socket's queue and are answered later."""
    async with listening() as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            answer = asyncio.ensure_future(greeted(client))
            done, _ = await asyncio.wait({answer}, timeout=0.3)
            assert not done
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await answer == b"hello"
        client.close()


async def test_after_close_nobody_is_accepted() -> None:
    async with listening() as port:
        pass
    with socket.socket() as client:
        client.settimeout(5)
        assert client.connect_ex(("127.0.0.1", port)) != 0
