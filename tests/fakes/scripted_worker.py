"""A worker that speaks the supervisor's protocol over real sockets and does what ``behaviour.json`` says.

Started as ``scripted_worker.py RELEASE_DIR …`` with ``PURGELINE_WORKER`` in the environment. Every command it
receives, and what it was started with, is a line of ``RELEASE_DIR/commands.jsonl``. Keys of the behaviour:

- ``version``: of it, and ``says``: what it says it is, if it lies
- ``import_error``: it ends with that traceback; ``exit_code``: it ends with that; ``hang``: it never answers
- ``ready_status``: of ``/readyz``; ``unready_after_s``: 503 there so long after `go`
- ``unproven``: nodes that it says to pass purges on, with the reason
- ``ready_delay_s``: before its private socket is there; ``accept_delay_s``: after `go`
- ``exit_after_s``: it ends with 3 so long after it began to accept
- ``busy_count``: it says to have answered so many requests more each time it says anything
- ``error_every``: every n-th request is answered 500
- ``ignores_drain``
- ``flood_lines``: written to stderr at the start, a kilobyte each
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

RELEASE = Path(sys.argv[1])
SETTINGS: dict[str, Any] = json.loads(os.environ["PURGELINE_WORKER"])
BEHAVIOUR: dict[str, Any] = json.loads((RELEASE / "behaviour.json").read_text())
VERSION = BEHAVIOUR.get("says", BEHAVIOUR["version"])
GRACE_S = 0.3


def note(what: str, **fields: object) -> None:
    """Add a line to what the test reads."""
    line = {"what": what, "slot": SETTINGS["slot"], "generation": SETTINGS["generation"], **fields}
    with (RELEASE / "commands.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


class ScriptedWorker:
    """One worker."""

    def __init__(self) -> None:
        self.listener = socket.socket(fileno=SETTINGS["listen_fd"])
        self.control = socket.socket(fileno=SETTINGS["control_fd"])
        self.went_at = 0.0
        self.is_draining = False
        self.requests = self.errors = 0
        self.busy: set[asyncio.StreamWriter] = set()
        self.open: set[asyncio.StreamWriter] = set()
        self.over = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Do what the supervisor says until it says drain. Returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: self.begin(self.drain(30)))
        loop.add_signal_handler(signal.SIGUSR1, note, "SIGUSR1")
        await asyncio.sleep(BEHAVIOUR.get("ready_delay_s", 0))
        path = Path(SETTINGS["socket"])
        private = socket.socket(socket.AF_UNIX)
        folder = os.open(path.parent, os.O_PATH)
        private.bind(f"/proc/self/fd/{folder}/{path.name}")
        await asyncio.start_unix_server(self.serve_private, sock=private)
        self.begin(self.obey())
        self.begin(self.report())
        await self.over.wait()
        return 0

    def begin(self, step: Any) -> None:
        task = asyncio.ensure_future(step)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def say(self, event: str, **fields: object) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone
            self.control.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")

    async def obey(self) -> None:
        reader, _ = await asyncio.open_connection(sock=self.control.dup())
        with contextlib.suppress(ConnectionResetError):  # it died with reports of ours unread
            while line := await reader.readline():
                command = json.loads(line)
                note(command.pop("cmd"), **command)
                await self.do(json.loads(line))
        note("end of control")
        await self.drain(2)

    async def do(self, command: dict[str, Any]) -> None:
        if command["cmd"] == "go":
            self.went_at = time.monotonic()
            await asyncio.sleep(BEHAVIOUR.get("accept_delay_s", 0))
            asyncio.get_running_loop().add_reader(self.listener, self.accept)
            self.say("accepting")
            if "exit_after_s" in BEHAVIOUR:
                print("the scripted end", file=sys.stderr, flush=True)
                asyncio.get_running_loop().call_later(BEHAVIOUR["exit_after_s"], os._exit, 3)
        elif command["cmd"] == "drain" and not BEHAVIOUR.get("ignores_drain"):
            self.begin(self.drain(command["limit_s"]))

    async def report(self) -> None:
        while True:
            self.requests += BEHAVIOUR.get("busy_count", 0)
            self.say("health", requests=self.requests, errors_5xx=self.errors, ready=True)
            await asyncio.sleep(0.2)

    async def drain(self, limit_s: float) -> None:
        """Stop accepting, give idle clients a moment, finish the others."""
        if self.is_draining:
            return
        self.is_draining = True
        self.say("draining")
        asyncio.get_running_loop().remove_reader(self.listener)
        self.listener.close()
        until = time.monotonic() + limit_s
        await asyncio.sleep(GRACE_S)
        for writer in self.open - self.busy:
            writer.close()
        while self.busy and time.monotonic() < until:  # noqa: ASYNC110 - a fake
            await asyncio.sleep(0.01)
        self.say("drained")
        self.over.set()

    # HTTP

    def accept(self) -> None:
        """Take what waits; asyncio's own server would reset those that it took just before its close."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                self.begin(self.take(connection))

    async def take(self, connection: socket.socket) -> None:
        await self.serve(*await asyncio.open_connection(sock=connection))

    async def serve_private(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if path == "/version":
            await self.answer(writer, 200, {"version": VERSION, "pid": os.getpid()}, "close")
        else:
            status = BEHAVIOUR.get("ready_status", 200)
            if self.went_at and time.monotonic() > self.went_at + BEHAVIOUR.get("unready_after_s", 1e9):
                status = 503
            unproven = BEHAVIOUR.get("unproven", {})
            await self.answer(writer, status, {"detail": "as scripted", "unproven": unproven}, "close")
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while await self.converse(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.busy.discard(writer)
            self.open.discard(writer)
            writer.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.busy.add(writer)
        self.requests += 1
        if path.startswith("/slow"):
            note("slow")
            await asyncio.sleep(float(path.partition("=")[2]))
        fails = bool(BEHAVIOUR.get("error_every")) and self.requests % BEHAVIOUR["error_every"] == 0
        self.errors += fails
        body = {"version": VERSION, "pid": os.getpid(), "generation": SETTINGS["generation"]}
        connection = "close" if self.is_draining else "keep-alive"
        await self.answer(writer, 500 if fails else 200, body, connection)
        self.busy.discard(writer)
        return connection == "keep-alive"

    async def answer(self, writer: asyncio.StreamWriter, status: int, body: Any, connection: str) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} Said\r\nConnection: {connection}\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()


def main() -> int:
    """Run one worker."""
    names = [name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]
    listed = list(Path("/proc/self/fd").iterdir())
    descriptors = [int(path.name) for path in listed if path.exists()]  # without the one that listed them
    note(
        "start",
        settings=SETTINGS,
        names=names,
        descriptors=descriptors,
        argv=sys.argv[2:],
        cwd=str(Path.cwd()),
    )
    for number in range(BEHAVIOUR.get("flood_lines", 0)):
        print(f"line {number} " + "x" * 990, file=sys.stderr)
    if "import_error" in BEHAVIOUR:
        raise ImportError(BEHAVIOUR["import_error"])
    if "exit_code" in BEHAVIOUR:
        return int(BEHAVIOUR["exit_code"])
    if BEHAVIOUR.get("hang"):
        time.sleep(3600)
    return asyncio.run(ScriptedWorker().run())


if __name__ == "__main__":
    sys.exit(main())
