"""A repository of artefacts: reading it with distrust, and publishing so that it is whole at any moment.

Reading: the index counts only as `release.repository.signed` says; an artefact only when size and SHA-256 are
those of the index.

Publishing: the artefact is uploaded under a temporary name, then a lock is taken, the index is read again,
the artefact gets its name, and the new index replaces the old one last. What is cut short at any point, by a
signal or a full disk, leaves the old index and at most files that nobody refers to; the next publisher
removes them when they are a day old. What an index becomes is decided by `release.repository.changes`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from release.build.manifest import read_manifest, sha256_of
from release.errors import ArtefactError, RepositoryError
from release.repository import changes
from release.repository.index import Index, check_channel
from release.repository.lock import PublishLock
from release.repository.signed import SignedIndex
from release.repository.transports.connect import connect
from release.repository.transports.transport import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from release.repository.index import Artefact
    from release.repository.transports.transport import Transport
    from release.settings import Settings

_LEFTOVER_S: Final = 86400  #: a temporary file this old belongs to nobody


@dataclass(frozen=True, slots=True)
class Change:
    """What a publisher did, or with ``dry_run`` would do."""

    index: Index
    notes: list[str] = field(default_factory=list)  #: one sentence each, for a person; none: nothing to do

    @property
    def is_change(self) -> bool:
        """Whether the repository changed, or would."""
        return bool(self.notes)


def open_repository(url: str, settings: Settings) -> Repository:
    """Return the repository *url*; nothing is read or connected yet.

    Args:
        url: a folder, relative to the caller's, ``ssh://…`` or ``http(s)://…``; empty: the one of *settings*.
        settings: trusted keys, key file, time-outs.

    Raises:
        SettingsError: *url* is none of these.
    """
    return Repository(connect(url or settings.repository, settings), settings)


class Repository:
    """See the module.

    Args:
        transport: the way to it.
        settings: trusted keys, key file, life of an index.
        clock: time in UNIX seconds.
        stale_s: see `release.repository.lock.PublishLock`.
    """

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        stale_s: float = 30,
    ) -> None:
        self.url = transport.url
        self._transport = transport
        self._clock = clock
        self._stale_s = stale_s
        self._index = SignedIndex(transport, settings, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if any."""
        self._transport.close()

    def envelope(self) -> bytes:
        """Return the signed index unverified, for hosts that verify it themselves.

        Raises:
            RepositoryError: there is none, or it cannot be read.
        """
        return self._index.envelope()

    def index(self) -> Index:
        """Return the index, verified.

        Raises:
            RepositoryError: no index, no trusted signature, changed, expired, or older than one seen before.
            SettingsError: no key is trusted.
        """
        return self.verify(self.envelope())

    def verify(self, envelope: bytes) -> Index:
        """Return the index in *envelope*; see `index`."""
        return self._index.verify(envelope)

    def fetch(self, artefact: Artefact, to: Path) -> Path:
        """Bring *artefact* into the folder *to* and return its path; a good copy there is taken as it is.

        Raises:
            ArtefactError: what came is not what the index says; nothing is left of it.
            RepositoryError: it cannot be read.
        """
        path = to / artefact.file_name
        if "/" in artefact.file_name or artefact.file_name.startswith("."):
            raise ArtefactError(f"{artefact.file_name!r}: is no name of an artefact")
        is_size = path.is_file() and path.stat().st_size == artefact.size
        if is_size and sha256_of(path) == artefact.sha256:
            return path
        to.mkdir(parents=True, exist_ok=True)
        temporary = to / f".{artefact.file_name}.{secrets.token_hex(4)}"
        try:
            self._download(artefact, temporary)
            temporary.replace(path)
        except OSError as exc:
            raise ArtefactError(f"{path}: cannot be written: {exc.strerror}") from exc
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def publish(self, path: Path, *, channel: str = "", dry_run: bool = False) -> Change:
        """Publish the artefact *path*, and let *channel* name its version. Again: nothing to do.

        Args:
            path: the artefact.
            channel: ``canary`` or ``stable``; empty: no channel changes.
            dry_run: only check, and say what would be done.

        Raises:
            ArtefactError: *path* is no artefact.
            LockedError: somebody else publishes.
            RepositoryError: the version is there with other bytes or yanked, or the repository cannot be
                read, trusted or written; the index is as before then.
            SettingsError: the key file, ``trusted_keys`` or *channel* cannot be used.
        """
        if channel:
            check_channel(channel)
        manifest = read_manifest(path)
        sha256, size = sha256_of(path), path.stat().st_size

        def plan(index: Index) -> Index:
            new = changes.added(index, manifest, sha256=sha256, size=size, now=self._clock())
            return changes.pointed(new, channel, manifest.version) if channel else new

        return self._change(plan, dry_run=dry_run, upload=path)

    def promote(self, version: str, channel: str, *, dry_run: bool = False) -> Change:
        """Let *channel* name *version*, which is published already. Raises as `publish` does."""
        check_channel(channel)
        return self._change(lambda index: changes.pointed(index, channel, version), dry_run=dry_run)

    def yank(self, version: str, reason: str, *, dry_run: bool = False) -> Change:
        """Mark *version* as not to be taken. Raises as `publish` does."""
        return self._change(lambda index: changes.yanked(index, version, reason), dry_run=dry_run)

    def keep_newest(self, count: int) -> None:
        """Remove all but the *count* versions that were published last, and those that channels name.

        For a repository that nobody else reads: elsewhere a published version stays. Raises as `publish`.
        """
        before = {entry.file_name for entry in self._index.current().artefacts}
        change = self._change(lambda index: changes.newest(index, count), dry_run=False)
        for name in sorted(before - {entry.file_name for entry in change.index.artefacts}):
            self._transport.remove(name)

    def refresh(self, *, dry_run: bool = False) -> Change:
        """Sign the index anew, so that it is good for another ``index_ttl_s``. Raises as `publish` does."""
        self.envelope()  # there must be one
        return self._change(lambda index: index, dry_run=dry_run, always=True)

    def _change(
        self,
        plan: Callable[[Index], Index],
        *,
        dry_run: bool,
        upload: Path | None = None,
        always: bool = False,
    ) -> Change:
        """Apply *plan* to the index, under the lock. It runs twice: first to refuse what cannot be done."""
        keys = self._index.signing_keys()
        old = self._index.current()
        notes = changes.differences(old, plan(old)) or (["sign the index anew"] if always else [])
        missing = upload is not None and not self._has(upload)
        if missing and not notes:
            notes = (
                [f"put back {upload.name}, which the index names and the repository lacks"] if upload else []
            )
        if dry_run or not notes:
            return Change(old, notes)
        with (
            self._staged(upload if missing else None) as staged,
            PublishLock(self._transport, stale_s=self._stale_s) as lock,
        ):
            old = self._index.current()
            new = plan(old)
            if staged and upload:
                self._transport.commit(staged, upload.name)
            if new is not old or always:
                new = self._index.write(new, keys, lock)
            self._remove_leftovers()
        return Change(new, notes)

    def _has(self, path: Path) -> bool:
        """Tell whether the repository has this very artefact: the index names it, and its file is there."""
        stored = self._transport.names().get(path.name)
        named = [entry for entry in self._index.current().artefacts if entry.file_name == path.name]
        return stored is not None and bool(named) and stored.size == named[0].size == path.stat().st_size

    @contextlib.contextmanager
    def _staged(self, path: Path | None) -> Iterator[str]:
        """Upload *path* under a temporary name, which is gone at the end unless it got its own."""
        if path is None:
            yield ""
            return
        with path.open("rb") as content:
            staged = self._transport.stage(content)
        try:
            yield staged
        finally:
            with contextlib.suppress(RepositoryError):
                self._transport.remove(staged)

    def _remove_leftovers(self) -> None:
        """Remove temporary files that a publisher left long ago; the lock's own time is the clock there."""
        names = self._transport.names()
        now = max((status.changed_at for status in names.values()), default=0.0)
        for name, status in names.items():
            if name.startswith(TEMPORARY) and status.changed_at < now - _LEFTOVER_S:
                self._transport.remove(name)

    def _download(self, artefact: Artefact, to: Path) -> None:
        where = f"{self.url}/{artefact.file_name}"
        digest, size = hashlib.sha256(), 0
        with to.open("xb") as file:
            for chunk in self._transport.stream(artefact.file_name):
                size += len(chunk)
                if size > artefact.size:
                    raise ArtefactError(f"{where}: is larger than the {artefact.size} bytes of the index")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if size < artefact.size:
            raise ArtefactError(f"{where}: ended after {size} of {artefact.size} bytes; run it again")
        if digest.hexdigest() != artefact.sha256:
            raise ArtefactError(
                f"{where}: its SHA-256 is not the one of the index; it was changed or damaged"
            )
