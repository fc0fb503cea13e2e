"""The operation ``shadow``: two versions answer a recording side by side, and nobody but us notices.

Of the version that serves and of a new one an engine is started beside the one that runs: on a port of
loopback, with a folder of its own, SQLite, and a sink in place of every cache (`shadow_config`). The new
version's ``purgeline replay --beside`` sends both the recording, turn about. What was started here ends with
this process (`guard`), or after `LIFE_SLACK_S` more than the operation may take.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import subprocess
import time
from pathlib import Path

import tomllib

from . import package, verify
from .answers import TAIL_LINES, Refused, tell
from .control import running
from .environment import python_of
from .guard import Guard
from .requests import seconds
from .shadow_engine import Shadow, spared
from .sinks import Sinks
from .unpack import drop

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

FOLDER = "shadow"
CONNECTIONS = 8
TIMEOUT_S = 900.0
LIFE_SLACK_S = 60.0
POLL_S = 0.5
TOLD_TIMES = 10
USAGE = 2  #: exit code


def shadow(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Compare two releases by a recording; the answer is what `engine.recordings.comparison` found."""
    recording = Path(request["file"])
    folder = host.root / FOLDER
    try:
        for version in (request["was"], request["version"]):
            verify.check(host, version, is_quick=True)
        package.remove(folder)  # of one that a power cut has ended
        folder.mkdir()
        folder.chmod(0o711)  # root's own: nobody else puts a name into it
        guard = Guard(folder)
        try:
            return Comparison(host, request, folder, guard).run(recording)
        finally:
            guard.close()
    finally:
        drop(host, recording, request)


def tell_now_and_then(number: int, slices: int) -> None:
    """Say how far it is, some ten times."""
    if number % max(1, slices // TOLD_TIMES) == 0 or number == slices:
        tell("slice", message=f"slice {number} of {slices} is played")


class Comparison:
    """One comparison.

    Args:
        host: the installation.
        request: of the operation.
        folder: of this comparison.
        guard: ends what is started.
    """

    def __init__(self, host: Host, request: dict[str, Any], folder: Path, guard: Guard) -> None:
        self._host = host
        self._request = request
        self._folder = folder
        self._guard = guard
        self._token = secrets.token_hex(16)
        self._until = time.monotonic() + seconds(request, "timeout_s", TIMEOUT_S)

    def run(self, recording: Path) -> dict[str, Any]:
        """Start both shadows, play the recording, and return the report."""
        file = self._folder / f"recording{''.join(recording.suffixes[-2:])}"
        shutil.copyfile(recording, file)
        versions = {"beside": self._request["was"], "engine": self._request["version"]}
        table, owner = self._table(), self._owner()
        file.chmod(0o600)
        os.chown(file, *owner, follow_symlinks=False)
        sinks = Sinks().start()
        shadows = {}
        for side, version in versions.items():
            made = Shadow(version, self._folder / side, python_of(self._host.release(version)), owner)
            made.configure(table, sink=sinks.url, token=self._token)
            made.start(self._guard, life_s=self._until - time.monotonic() + LIFE_SLACK_S)
            shadows[side] = made
        ready_s = seconds(self._request, "ready_s", 20.0)
        for side, one in shadows.items():
            tell("start", message=f"a shadow of {versions[side]} starts")
            one.wait_ready(time.monotonic() + ready_s)
        return self._play(file, shadows, owner)

    def _table(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._host.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise Refused("config", f"{self._host.config} cannot be read: {exc}") from None

    def _owner(self) -> tuple[int, int]:
        """Return user and group of the engine that serves: root starts no engine as root for this."""
        status = Path(f"/proc/{running(self._host).get('pid')}")
        found = status.stat() if status.exists() else self._host.shared.stat()
        return (found.st_uid, found.st_gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

    def _play(self, file: Path, shadows: dict[str, Shadow], owner: tuple[int, int]) -> dict[str, Any]:
        """Run the replay; return its report, with the CPU time that each shadow took for the requests."""
        new, request = shadows["engine"], self._request
        command = [str(new.python), "-I", "-u", "-m", "engine", "replay", str(file), "--json", "--loop"]
        command += ["--engine", new.url, "--beside", shadows["beside"].url]
        command += ["--workers", str(CONNECTIONS), "--speed", str(request.get("speed") or "max")]
        command += ["--limit", str(request["requests"]), "--slice", str(request["slice"])]
        environ = {"PURGELINE_TOKEN": self._token}
        log = self._folder / "replay.log"
        process = spared(command, self._folder, owner, log=log, environ=environ, stdout=subprocess.PIPE)
        self._guard.watch(process.pid)
        before = {side: one.cpu_s() for side, one in shadows.items()}
        cpu_s: dict[str, float] = {}
        report: dict[str, Any] = {}
        for line in self._lines(process):
            for one in shadows.values():
                one.need_alive()
            if line.get("slice") == 0:
                cpu_s = {side: one.cpu_s() - before[side] for side, one in shadows.items()}
            elif "slice" in line:
                tell_now_and_then(line["slice"], request["slices"])
            else:
                report = line
        code = process.wait()
        if not report:
            raise self._no_report(code, log)
        return {"report": report, "cpu_s": cpu_s}

    def _no_report(self, code: int, log: Path) -> Refused:
        said = [line for line in log.read_text(errors="replace").splitlines() if line][-TAIL_LINES:]
        version = self._request["version"]
        if code == USAGE and said and "--beside" in said[-1]:
            return Refused("shadow", f"{version} cannot compare shadows: its replay has no --beside", said)
        why = said[-1] if said else "it said nothing"
        with contextlib.suppress(ValueError, TypeError, KeyError):
            why = json.loads(why)["error"]
        return Refused("shadow", f"the replay ended with {code}: {why}", said)

    def _lines(self, process: subprocess.Popen[bytes]) -> Any:
        """Yield what the replay says, as long as somebody listens to us and there is time."""
        assert process.stdout is not None
        stream = process.stdout.fileno()
        os.set_blocking(stream, False)
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        poll.register(1, 0)  # the asker's end of our output: an error when it is gone
        text = b""
        while True:
            ready = dict(poll.poll(POLL_S * 1000))
            if ready.get(1):
                raise Refused("lost", "nobody waits for the comparison any more")
            if time.monotonic() > self._until:
                raise Refused("timeout", "the comparison took longer than it may (shadow_timeout_s)")
            if stream not in ready:
                continue
            piece = process.stdout.read()
            if piece == b"":
                return
            *lines, text = (text + (piece or b"")).split(b"\n")
            yield from (json.loads(line) for line in lines)
