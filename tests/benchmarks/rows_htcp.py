"""Purges over UDP: how many a second an HTCP door saves, and whether a burst loses any."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.benchmarks.figures import Figure, Side
from tests.benchmarks.harness import HERE, HOST, Bench, in_turn, wait_until_idle
from tests.fakes.htcp_clients import clr, mediawiki
from tests.rigs.engine_process import EngineProcess, node_table
from tests.waiting import wait_until

_WINDOW = 2000  #: datagrams without an answer yet
_BURST = 10_000
_SILENT_S = 1.0  #: then what is not answered is lost


def htcp(bench: Bench) -> Iterator[Figure]:
    """CLRs that ask for an answer, which comes when they are saved, against a loop that only answers."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.cache())
        port = _free_udp_port()
        table = f'[[door]]\nkind = "htcp"\nlisten = "127.0.0.1:{port}"\n'
        engine = stack.enter_context(bench.engine(node_table(cache, name="edge-1") + table))
        echo = stack.enter_context(_echo())
        assert echo.stdout is not None
        echo_port = int(echo.stdout.readline())
        ours, peer = Side(), Side()

        def measure(side: Side, to: int) -> float:
            value = _answered_per_s(to, bench.seconds(4), side)
            wait_until_idle(engine)
            return value

        measure(Side(), port)
        in_turn(
            bench.rounds,
            (lambda: measure(ours, port), ours, [engine.pid]),
            (lambda: measure(peer, echo_port), peer, [echo.pid]),
        )
        lost = sum(_burst(engine, port) for _ in range(bench.rounds))
        echo.terminate()
    yield Figure(
        "htcp",
        "CLR, saved before it is answered",
        ours.median,
        "CLR/s",
        "a loop on uvloop that only answers datagrams",
        peer.median,
        ours.median / peer.median,
        ">= 20,000/s, bursts of 10,000 whole",
        ours.median >= 20_000 and not ours.errors and not lost,
        ours.cpu_s,
        ours.peak_rss_bytes,
        peer.cpu_s,
        peer.peak_rss_bytes,
        ours.spread,
        f"lost {ours.errors} / {peer.errors}; {bench.rounds} bursts of {_BURST:,}: {lost} dropped",
    )


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _echo() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(HERE / "peers" / "udp_echo.py")], stdout=subprocess.PIPE)


def _answered_per_s(port: int, seconds: float, side: Side) -> float:
    """Send datagrams, some at a time, and return how many a second are answered; what is not is an error."""
    messages = [clr(f"http://{HOST}/htcp/{number}", wants_answer=True) for number in range(50_000)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        sent = answered = 0
        began = heard = time.monotonic()
        while (now := time.monotonic()) < began + seconds or answered < sent:
            if now < began + seconds:
                for _ in range(min(64, _WINDOW - (sent - answered))):
                    client.send(messages[sent % len(messages)])
                    sent += 1
            with contextlib.suppress(BlockingIOError):
                for _ in range(256):
                    client.recv(64)
                    answered += 1
                    heard = now
            if now > heard + _SILENT_S:
                break
    side.errors += sent - answered
    return answered / (heard - began)


def _burst(engine: EngineProcess, port: int) -> int:
    """Send a burst as fast as one process can, as MediaWiki words it; return how many the kernel dropped."""
    before = _counts(engine)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        for message in [mediawiki(f"http://{HOST}/burst/{number}", number) for number in range(_BURST)]:
            client.send(message)
    wait_until(
        lambda: sum(_counts(engine)) - sum(before) == _BURST, what="every datagram counted", timeout_s=60
    )
    wait_until_idle(engine)
    return _counts(engine)[1] - before[1]


def _counts(engine: EngineProcess) -> tuple[int, int]:
    """Return how many datagrams were saved, and how many the kernel dropped."""
    found = [0, 0]
    for line in engine.request("GET", "/metrics")[2].decode().splitlines():
        for place, start in enumerate(
            ('purgeline_datagrams_total{outcome="accepted"} ', "purgeline_datagrams_dropped_total ")
        ):
            if line.startswith(start):
                found[place] = int(float(line.removeprefix(start)))
    return found[0], found[1]
