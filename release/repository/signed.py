"""The signed index of a repository, read with distrust and written whole.

It counts only when a trusted key signed it, it has not expired, and no newer one was seen here before.
"""

from __future__ import annotations

import io
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release.calling import call
from release.errors import RepositoryError
from release.repository import changes, signing
from release.repository.index import Index, decode_index, encode_index
from release.repository.serials import SerialMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from release.repository.lock import PublishLock
    from release.repository.transports.transport import Transport
    from release.settings import Settings

INDEX: Final = "index.json"
_INDEX_BYTES_MAX: Final = 16 * 1024 * 1024


class SignedIndex:
    """The file `INDEX` of the repository behind *transport*.

    Args:
        transport: the way to it.
        settings: trusted keys, key file, life of an index, and where seen serials are kept.
        clock: time in UNIX seconds.
    """

    def __init__(self, transport: Transport, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._url = transport.url
        self._transport = transport
        self._settings = settings
        self._clock = clock
        self._seen = SerialMemory(Path(settings.state_dir).expanduser(), transport.url)
        self._floor: dict[str, bytes] | None = None  # what was known when the index was read

    def envelope(self) -> bytes:
        """Return the signed index unverified.

        Raises:
            RepositoryError: there is none, or it cannot be read.
        """
        content = self._read()
        if content is None:
            raise RepositoryError(
                f"repository {self._url} has no {INDEX}; publish something with {call('repo')}"
            )
        return content

    def verify(self, envelope: bytes) -> Index:
        """Return the index in *envelope*, and remember its serial.

        Raises:
            RepositoryError: no trusted signature, changed, expired, or older than one seen before.
            SettingsError: no key is trusted.
        """
        index = self._authentic(envelope)
        if index.expires_at <= self._clock():
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(index.expires_at))
            raise RepositoryError(
                f"the index of {self._url} expired on {when}; renew it with {call('repo --refresh')}, and "
                "find out whether somebody holds back newer ones"
            )
        self._seen.remember(index.serial, index.repository)
        return index

    def current(self) -> Index:
        """Return the index that a publisher builds on, expired or not; an empty one in a new repository."""
        content = self._read()
        return Index() if content is None else self._authentic(content)

    def signing_keys(self) -> list[Ed25519PrivateKey]:
        """Return the keys that sign the index.

        Raises:
            RepositoryError: nobody would trust their signatures.
            SettingsError: the key file or ``trusted_keys`` cannot be used.
        """
        path = Path(self._settings.key_file).expanduser()
        keys = signing.load_keys(path)
        known = signing.trusted(self._settings.trusted_keys)
        if not any(signing.keyid(key.public_key().public_bytes_raw()) in known for key in keys):
            public = signing.public_text(keys[0])
            raise RepositoryError(f"{path}: nobody would trust its signature; add {public} to trusted_keys")
        return keys

    def write(self, index: Index, keys: list[Ed25519PrivateKey], lock: PublishLock) -> Index:
        """Sign and write the index, if the lock is still ours then."""
        index = changes.renewed(
            index,
            now=self._clock(),
            ttl_s=self._settings.index_ttl_s,
            seen=self._seen.highest(index.repository),
            repository=self._seen.repository() or secrets.token_hex(16),
        )
        staged = self._transport.stage(io.BytesIO(signing.seal(encode_index(index), keys)))
        is_done = False
        try:
            if not lock.is_ours():
                raise RepositoryError(
                    f"repository {self._url}: another publisher took over, "
                    "this one was too slow; run it again"
                )
            self._transport.commit(staged, INDEX)
            is_done = True
        finally:
            if not is_done:
                self._transport.remove(staged)
        self._seen.remember(index.serial, index.repository)
        return index

    def _read(self) -> bytes | None:
        """Read first the serials to compare with, then the index: others see newer ones at any time."""
        self._floor = self._seen.known()
        return self._transport.read(INDEX, _INDEX_BYTES_MAX)

    def _authentic(self, envelope: bytes) -> Index:
        """Return the index, whether it has expired or not, if it is signed and not an old one."""
        what = f"the index of {self._url}"
        keys = signing.trusted(self._settings.trusted_keys)
        index = decode_index(signing.unseal(envelope, keys, what), what)
        highest = self._seen.highest(index.repository, self._floor)
        if index.serial < highest:
            raise RepositoryError(
                f"{what} is an old one (serial {index.serial}; {highest} was seen before): it was put back, "
                f"or this is another repository; if that is right, remove {self._seen.path}"
            )
        return index
