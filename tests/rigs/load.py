"""Clients without pause, for what must not be noticed by any of them.

``python -m tests.rigs.load HOST PORT --clients 120 --seconds 10`` prints what they saw as JSON, for use in
another network namespace; SIGTERM ends it early. Every request must succeed: nothing is tried again.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import uvloop

from tests.rigs.raw_client import RawClient
from tests.waiting import wait_until

SITE = "img.example.com"
SETTLE_S = 60.0
PIPELINED_MAX = 64
OK = 200


@dataclass
class Seen:
    """What the clients saw."""

    requests: int = 0
    accepted: list[str] = field(default_factory=list)  #: ids answered 202
    errors: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def p999_s(self) -> float:
        """Return the 99.9th percentile of the latencies."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.999))] if ordered else 0.0


class Load:
    """*clients* of which half keep their connection and half open a new one for each request.

    Keep-alive clients ask for the state of each task they have handed in, too: it must be there.
    """

    def __init__(self, host: str, port: int, *, clients: int = 120, pause_s: float = 0.0) -> None:
        self.seen = Seen()
        self._host = host
        self._port = port
        self._clients = clients
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> Seen:
        """Let every client finish its request, and return what they saw."""
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a client hangs"
        return self.seen

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        keeps = number % 2 == 0
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        count = 0
        while not self._is_over.is_set():
            count += 1
            body = json.dumps({"targets": [f"http://{SITE}/{number}/{count}"]}).encode()
            head = f"POST /v1/engine/task HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n"
            connection, answer = await self._ask(connection, head.encode() + body, 202)
            if answer is not None:
                task_id = json.loads(answer)["task_id"]
                self.seen.accepted.append(task_id)
                if keeps:
                    text = f"GET /v1/engine/task/{task_id} HTTP/1.1\r\nHost: e\r\n\r\n"
                    connection, _ = await self._ask(connection, text.encode(), 200)
            if not keeps and connection is not None:
                connection[1].close()
                connection = None
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
        if connection is not None:
            connection[1].close()

    async def _ask(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, data: bytes, wanted: int
    ) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, bytes | None]:
        """Send one request; return the connection if it can be used again, and the body if all went well."""
        began = time.monotonic()
        seen = self.seen
        seen.requests += 1
        step = "connecting"
        try:
            if connection is None:
                connection = await asyncio.open_connection(self._host, self._port)
            step = "sending"
            reader, writer = connection
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            step = "reading"
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as exc:
            seen.errors.append(f"{step}: {exc!r}")
            await asyncio.sleep(0.05)
            if connection is not None:
                connection[1].close()
            return None, None
        took_s = time.monotonic() - began
        seen.latencies_s.append(took_s)
        seen.slowest_s = max(seen.slowest_s, took_s)
        if "connection: close" in head:
            writer.close()
            connection = None
        status = int(head.split(" ", 2)[1])
        if status != wanted:
            seen.errors.append(f"{status} instead of {wanted}: {body[:200]!r}")
            return connection, None
        return connection, body


def settled(host: str, port: int, ids: Sequence[str]) -> Counter[str]:
    """Wait until nothing is at work; return how many of *ids* are in which state, each asked for."""
    states: Counter[str] = Counter()
    with RawClient(port, host=host) as client:

        def is_quiet() -> bool:
            return not client.ask(request("/v1/engine/stats")).json["tasks_in_cache"]

        with contextlib.suppress(AssertionError):  # then their states tell
            wait_until(is_quiet, timeout_s=SETTLE_S)
        for start in range(0, len(ids), PIPELINED_MAX):
            part = ids[start : start + PIPELINED_MAX]
            client.send(b"".join(request(f"/v1/engine/task/{task_id}") for task_id in part))
            for task_id in part:
                answer = client.answer()
                states[answer.json["state"] if answer.status == OK else f"{answer.status} for {task_id}"] += 1
    return states


def request(path: str) -> bytes:
    """Return a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: e\r\n\r\n".encode()


def main(argv: Sequence[str]) -> int:
    """Run for a while, or until SIGTERM, and print what was seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument(
        "--settle", action="store_true", help="wait until all is settled, and ask for every task"
    )
    args = parser.parse_args(argv)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with Load(args.host, args.port, clients=args.clients, pause_s=args.pause) as load:
        until = time.monotonic() + SETTLE_S
        while not load.seen.accepted and not over.wait(0.01):
            if time.monotonic() > until:
                print(f"nothing was accepted within {SETTLE_S:g} s: {load.seen.errors[:3]}", file=sys.stderr)
                return 1
        print("running", flush=True)
        over.wait(args.seconds)
    seen = load.seen
    states = settled(args.host, args.port, seen.accepted) if args.settle else {}
    print(
        json.dumps(
            {
                "requests": seen.requests,
                "accepted": len(set(seen.accepted)),
                "errors": seen.errors[:20],
                "error_count": len(seen.errors),
                "slowest_s": seen.slowest_s,
                "p999_s": seen.p999_s(),
                "states": states,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
