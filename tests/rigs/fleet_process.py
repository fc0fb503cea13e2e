"""The processes of a fleet's nodes, as those see them who run one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from release.lab.caches import free_port
from tests.rigs.engine_process import ROOT
from tests.rigs.fleet_nodes import ORIGIN, Versions, address_of, driver_of, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OF_A_PROCESS: Final = 2000
"""Nodes: each has a listener, and a connection of each engine; a process may open some 20,000 files."""


class Nodes:
    """All nodes, in as many processes as their sockets take.

    Args:
        folder: for the file of versions.
        nodes: how many.
        urls: how many the origin has.
    """

    def __init__(self, folder: Path, *, nodes: int, urls: int) -> None:
        self.versions = Versions(folder / "origin", urls)
        self.port = free_port()
        self._processes = []
        for first in range(0, nodes, OF_A_PROCESS):
            numbers = (min(OF_A_PROCESS, nodes - first), urls, self.port, first)
            command = [
                sys.executable,
                "-m",
                "tests.rigs.fleet_nodes",
                str(folder / "origin"),
                *map(str, numbers),
            ]
            self._processes.append(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        for process in self._processes:
            assert _read(process) == "ready"

    @property
    def origin(self) -> str:
        """The origin's URL."""
        return f"http://{ORIGIN}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [process.pid for process in self._processes]

    def say(self, text: str) -> None:
        """Send a line about a node to its process."""
        number = int(text.rpartition(" ")[2])
        _send(self._processes[number // OF_A_PROCESS], text)

    def report(self, wanted: Sequence[int]) -> dict[str, Any]:
        """Return what the nodes say."""
        told = []
        for process in self._processes:
            _send(process, f"report {json.dumps(wanted)}")
            told.append(json.loads(_read(process)))
        answers: Counter[str] = Counter()
        stale: dict[str, list[int]] = {}
        for one in told:
            answers.update(one["answers"])
            stale |= one["stale"]
        sums = {key: sum(one[key] for one in told) for key in ("connections", "cpu_s")}
        return {"stale": stale, "answers": dict(answers), **sums}

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()

    def tables(self, numbers: range) -> str:
        """Return the configuration of some nodes."""
        return "".join(
            f'[[node]]\nname = "{name_of(number)}"\ndriver = "{driver_of(number)}"\n'
            f'url = "http://{address_of(number)}:{self.port}"\n'
            + ('purge_path = "/purge"\n' if driver_of(number) == "nginx" else "")
            for number in numbers
        )


def _send(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
