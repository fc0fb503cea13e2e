"""What the caching proxy keeps: answers of its backend, in memory and as files.

A proxy that was killed comes back with what it had, stale or not, as nginx and Traffic Server do: every
object is also a file, read again at start.
"""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

STORE_MAX_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One answer of the backend."""

    key: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    since: float  #: UNIX time at which it was of age 0
    fresh_s: float  #: 0: not to be stored

    @property
    def age_s(self) -> int:
        """Seconds since the origin made the answer."""
        return max(0, int(time.time() - self.since))

    @property
    def is_fresh(self) -> bool:
        """Whether the answer may still be served."""
        return time.time() - self.since < self.fresh_s

    def to_bytes(self) -> bytes:
        """Return the answer as a file: one line of JSON, then the body."""
        facts = {name: value for name, value in asdict(self).items() if name != "body"}
        return json.dumps(facts).encode() + b"\n" + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a file back.

        Raises:
            ValueError, TypeError: the file was not written by `to_bytes`.
        """
        head, _, body = data.partition(b"\n")
        facts = json.loads(head)
        facts["headers"] = [(str(name), str(value)) for name, value in facts["headers"]]
        return cls(body=body, **facts)


class Store:
    """Objects by key, the least recently used ones dropped first; each is a file of *folder* too."""

    def __init__(self, folder: Path, *, max_bytes: int = STORE_MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._objects: dict[str, Stored] = {}
        self.used_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.object"):
            with contextlib.suppress(ValueError, TypeError, KeyError):  # no file of ours: leave it alone
                self._keep(Stored.from_bytes(path.read_bytes()))

    def __repr__(self) -> str:
        return f"<Store {self._folder} [{len(self._objects)} objects, {self.used_bytes} bytes]>"

    def get(self, key: str) -> Stored | None:
        """Return a fresh object."""
        stored = self._objects.pop(key, None)
        if stored is not None:
            self._objects[key] = stored  # now the most recently used
        return stored if stored is not None and stored.is_fresh else None

    def put(self, stored: Stored) -> None:
        """Keep an object, in a file that is either whole or not there."""
        self.drop(stored.key)
        self._keep(stored)
        path = self._path(stored.key)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(stored.to_bytes())
        temporary.replace(path)
        while self.used_bytes > self._max_bytes:
            self.drop(next(iter(self._objects)))

    def drop(self, key: str) -> bool:
        """Forget an object; return whether there was one."""
        stored = self._objects.pop(key, None)
        if stored is None:
            return False
        self.used_bytes -= len(stored.body)
        self._path(key).unlink(missing_ok=True)
        return True

    def _keep(self, stored: Stored) -> None:
        self._objects[stored.key] = stored
        self.used_bytes += len(stored.body)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.object"
