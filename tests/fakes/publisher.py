"""Publishes one artefact from a process of its own, and may kill itself at a chosen step.

``python -m tests.fakes.publisher JSON`` takes ``url``, ``path``, ``settings`` and optionally ``channel`` and
``kill_at``: the number of the step before which it sends itself SIGKILL, counted from 1. Steps are the
beginnings and ends of every call of the transport, and each piece that is uploaded.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from release.repository.repository import Repository
from release.repository.transports.connect import connect
from release.repository.transports.transport import Stat, Transport
from release.settings import parse_settings


class _Pieces:
    """A file that is read in small pieces, each of them a step."""

    def __init__(self, file: IO[bytes], step: Callable[[], None]) -> None:
        self._file = file
        self._step = step

    def read(self, size: int = -1) -> bytes:
        self._step()
        return self._file.read(min(size, 1000))


class Doomed:
    """A transport that ends its process at step *kill_at*; 0: never. `steps` counts them."""

    def __init__(self, inner: Transport, kill_at: int) -> None:
        self.url = inner.url
        self._inner = inner
        self._kill_at = kill_at
        self.steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _call(self, name: str, *args: Any) -> Any:
        self._step()
        answer = getattr(self._inner, name)(*args)
        self._step()
        return answer

    def read(self, name: str, bytes_max: int) -> bytes | None:
        content: bytes | None = self._call("read", name, bytes_max)
        return content

    def stream(self, name: str) -> Iterator[bytes]:
        return self._inner.stream(name)

    def names(self) -> dict[str, Stat]:
        found: dict[str, Stat] = self._call("names")
        return found

    def stage(self, content: IO[bytes]) -> str:
        return str(self._call("stage", _Pieces(content, self._step)))

    def commit(self, staged: str, name: str) -> None:
        self._call("commit", staged, name)

    def claim(self, staged: str, name: str) -> bool:
        return bool(self._call("claim", staged, name))

    def remove(self, name: str) -> None:
        self._call("remove", name)

    def close(self) -> None:
        self._inner.close()


def main(order: dict[str, Any]) -> None:
    chosen = parse_settings(order["settings"])
    inner = connect(order["url"], chosen)
    doomed = Doomed(inner, order.get("kill_at", 0))
    with Repository(doomed, chosen) as repository:
        change = repository.publish(Path(order["path"]), channel=order.get("channel", ""))
    print(json.dumps({"serial": change.index.serial, "notes": change.notes, "steps": doomed.steps}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
