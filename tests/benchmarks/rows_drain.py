"""Rows of bodies: whole objects that are fetched through a node and let go."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from release.lab import caches
from tests.benchmarks.figures import Figure, Side, short
from tests.benchmarks.harness import HOST, Bench, Clock, in_turn, peak_rss, rss
from tests.benchmarks.peering import run_peer
from tests.benchmarks.rows_caches import settled_s
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

MIB = 2**20


@contextlib.contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Run an nginx that sends files of 64 KiB and 256 MiB out of the page cache; yields its URL."""
    port = caches.free_port()
    files = folder / "files"
    files.mkdir()
    (files / "small").write_bytes(b"x" * 64 * 1024)
    with (files / "big").open("wb") as file:
        for _ in range(256):
            file.write(b"x" * MIB)
    (folder / "nginx.conf").write_text(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr error;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path tmp;\n"
        "proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; root {files};\n"
        "location ~ ^/small { try_files /small =404; } location ~ ^/big { try_files /big =404; } } }\n"
    )
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(port), what="nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    command = ["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/small"]
    return subprocess.run(command, check=False).returncode == 0


def drain(bench: Bench) -> Iterator[Figure]:
    """Prefetch: whole objects through a node, their bytes read into pooled buffers and let go."""
    at_once = 8
    cases = [("small", 64 * 1024, 3000, 2.0), ("big", 256 * MIB, 8 if bench.is_quick else 16, 1.0)]
    folder = bench.new_folder("files")
    with file_server(folder) as url, bench.engine(
        fake_table(url, name="edge-1"), prefetch_concurrency=at_once
    ) as engine:  # fmt: skip
        for name, size, count, target in cases:
            ours, theirs = Side(), Side()
            numbers = iter(range(1000))

            def fetch(
                name: str = name, size: int = size, count: int = count, numbers: Iterator[int] = numbers
            ) -> float:
                turn = next(numbers)
                targets = [f"http://{HOST}/{name}?{turn}-{place}" for place in range(count)]
                task_id = engine.submit(targets, action="prefetch", due_s=300)
                return size * count / settled_s(engine, task_id)

            fetch(count=at_once)
            in_turn(
                bench.rounds,
                (fetch, ours, [engine.pid]),
                (
                    lambda: run_peer("drain.py", f"{url}/{name}", count, at_once, side=theirs),  # noqa: B023
                    theirs,
                    (),
                ),
            )
            ratio = ours.median / theirs.median
            yield Figure(
                "drain",
                f"{short(size / 1024)} KiB" if size < MIB else f"{size // MIB} MiB",
                ours.median / MIB,
                "MiB/s",
                "aiohttp iter_chunked",
                theirs.median / MIB,
                ratio,
                f">= {target:g}x",
                ratio >= target,
                ours.cpu_s,
                ours.peak_rss_bytes,
                theirs.cpu_s,
                theirs.peak_rss_bytes,
            )
        yield _flat(bench, engine)


def _flat(bench: Bench, engine: EngineProcess) -> Figure:
    """Memory over 10 GiB of bodies."""
    count = 8 if bench.is_quick else 40
    side = Side()
    before = rss(engine.pid)
    clock = Clock(engine.pid)
    targets = [f"http://{HOST}/big?flat-{place}" for place in range(count)]
    settled_s(engine, engine.submit(targets, action="prefetch", due_s=600), timeout_s=300)
    grown = peak_rss(engine.pid) - before
    clock.stop(side)
    return Figure(
        "drain",
        f"memory over {count * 256 // 1024} GiB",
        grown / MIB,
        "MiB grown",
        target="<= 16 MiB",
        ok=grown <= 16 * MIB,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
    )
