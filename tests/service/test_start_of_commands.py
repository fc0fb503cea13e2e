"""What a command imports before it does anything: that is most of what its user waits for."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEVER = {"aiohttp", "asyncio", "jinja2", "msgspec", "rich", "uvloop", "inspect", "dataclasses", "typing"}
_DEAR = {"shutil", "bz2", "lzma", "subprocess", "threading", "random", "tempfile", "difflib"}
_WIRE = {"http", "http.client", "email", "ssl", "socket", "selectors", "urllib.parse", "ipaddress"}
_TEXTS = {"pathlib", "textwrap", "datetime"}


def imported(*words: str, has_packages: bool = False) -> set[str]:
    """Return the modules that are loaded when the command has ended, in a process of its own.

    Without packages it has no ``site`` either, which imports what a venv's hooks want.
    """
    code = (
        "import sys; before = set(sys.modules)\n"
        "from engine.cli.main import main\n"
        "main()\n"
        "sys.stderr.write('\\n' + ' '.join(set(sys.modules) - before))"
    )
    command = [sys.executable, *["-S"] * (not has_packages), "-c", code, *words]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.splitlines()[-1].split())


def test_the_version_is_told_by_one_module() -> None:
    found = imported("--version")
    assert {name for name in found if name.startswith("engine")} == {
        *("engine", "engine._version", "engine.cli", "engine.cli.main")
    }
    assert not found & (_NEVER | _DEAR | _WIRE | _TEXTS | {"argparse", "json", "re", "enum"})


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Have something answer as an engine does, and return its address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(b'{"nodes": [], "task_id": "a", "state": "done"}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(b'{"task_id": "a", "state": "accepted", "total": 1}')

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("words", [("nodes",), ("status", "a"), ("purge", "http://a/1")])
def test_a_command_that_asks_an_engine_imports_what_it_needs_alone(
    engine: str, words: tuple[str, ...]
) -> None:
    found = imported(*words, "--engine", engine)
    assert "engine.client.connection" in found  # it did ask
    assert not found & (_NEVER | _DEAR | _WIRE | _TEXTS)
    others = {
        "cdni",
        "debugging",
        "recording",
        "replaying",
        "group_reports",
        "receipts",
        "doctor",
        "silences",
        "top",
    }
    assert not found & {f"engine.cli.{name}" for name in others}


def test_a_configuration_is_checked_without_an_engine(tmp_path: Path) -> None:
    """Each reload on a host begins with it."""
    path = tmp_path / "engine.toml"
    path.write_text('[[node]]\nname = "a"\ndriver = "varnish"\nurl = "http://127.0.0.1:6081"\n')
    found = imported("check-config", str(path), has_packages=True)
    assert "engine.config.load" in found
    assert not found & {"aiohttp", "loguru", "redis", "prometheus_client", "cryptography", "uvloop"}


def test_an_engine_starts_without_what_its_configuration_does_not_use() -> None:
    code = "import engine.process.single, engine.process.worker, sys; sys.stderr.write(' '.join(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=True, timeout=60)
    found = set(done.stderr.split())
    assert "aiohttp" in found
    assert not found & {
        "redis",
        "prometheus_client",
        "cryptography",
        "jwt",
        "jinja2",
        "rich",
        "opentelemetry",
    }
