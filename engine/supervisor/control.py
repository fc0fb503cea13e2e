"""The control socket: how it is made, and its conversations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

from .errors import USAGE, SupervisorError
from .steps import Background
from .unix import unix_address

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

_LINE_MAX: Final = 64 * 1024  #: bytes of a request
_CLIENTS_MAX: Final = 64
_ANSWER_S: Final = 2.0  #: for a live supervisor to take a connection


def refuse_if_live(path: Path) -> None:
    """Make sure that no supervisor answers on a control socket.

    Raises:
        SupervisorError: a supervisor does, or the path is something else.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SupervisorError(f"--control: {path} is there and is no socket", exit_code=USAGE)
        with unix_address(path) as address, socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_ANSWER_S)
            sock.connect(address)
    except TimeoutError:
        pass  # that supervisor hangs, but it is there
    except OSError:
        return
    raise SupervisorError(f"a supervisor runs already, it answers on {path}")


def open_control(path: Path) -> socket.socket:
    """Return the listening control socket, mode 0600, in place of what a dead supervisor left.

    Raises:
        SupervisorError: it cannot be made, or belongs to a live supervisor.
    """
    refuse_if_live(path)
    sock = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with unix_address(path) as address:
            sock.bind(address)
        sock.listen(_CLIENTS_MAX)
    except OSError as exc:
        sock.close()
        raise SupervisorError(f"--control: {path} cannot be made: {exc.strerror}", exit_code=USAGE) from exc
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock


class Client:
    """One connection to the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.is_gone = False

    async def tell(self, document: dict[str, Any]) -> None:
        """Send a line; a client that has gone away misses it, and that is all."""
        if self.is_gone:
            return
        try:
            line = json.dumps(document).encode() + b"\n"
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, line), 10)
        except OSError:
            self.is_gone = True


class Control:
    """The control socket: a JSON object a line in, JSON lines out, the last of each answer with ``ok``.

    Args:
        answer: answers one request. A `SupervisorError` that it raises is told to the client.
    """

    def __init__(
        self, sock: socket.socket, answer: Callable[[dict[str, Any], Client], Coroutine[Any, Any, None]]
    ) -> None:
        self.sock = sock
        self._answer = answer
        self._background = Background()
        self._answers: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take clients from now on."""
        self._background.begin(self._accept())

    def adopt(self, client: Client) -> None:
        """Go on with a client that was accepted before."""
        self._background.begin(self._serve(client))

    async def close(self) -> None:
        """Let answers that are on their way finish, then end every connection."""
        if self._answers:
            await asyncio.wait(set(self._answers), timeout=1)
        await self._background.cancel()
        self.sock.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self.sock)
            except OSError:  # out of descriptors, most likely
                await asyncio.sleep(0.2)
                continue
            if len(self._background) > _CLIENTS_MAX:
                sock.close()
            else:
                self._background.begin(self._serve(Client(sock)))

    async def _serve(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        data = b""
        with client.sock, contextlib.suppress(OSError):
            while not client.is_gone:
                line, newline, rest = data.partition(b"\n")
                if newline:
                    data = rest
                    answer = asyncio.ensure_future(self._take(line, client))
                    self._answers.add(answer)
                    await answer
                    self._answers.discard(answer)
                elif len(data) > _LINE_MAX:
                    await client.tell({"ok": False, "error": f"a request has at most {_LINE_MAX} bytes"})
                    return
                elif chunk := await loop.sock_recv(client.sock, _LINE_MAX):
                    data += chunk
                else:
                    return

    async def _take(self, line: bytes, client: Client) -> None:
        try:
            await self._answer(request_of(line), client)
        except SupervisorError as exc:
            await client.tell({"ok": False, "error": str(exc)})
        except Exception as exc:
            await client.tell({"ok": False, "error": f"a mistake of the supervisor's own: {exc!r}"})
            raise


def request_of(line: bytes) -> dict[str, Any]:
    """Return the request that a line holds.

    Raises:
        SupervisorError: it is no JSON object; the text is for the client.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise SupervisorError(f"not JSON: {exc}") from exc
    if not isinstance(request, dict):
        raise SupervisorError('a request is a JSON object such as {"cmd": "status"}')
    return request
