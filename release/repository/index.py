"""The index of a repository: which artefacts there are, and which version each channel names. Pure.

An `Index` is never changed: `release.repository.changes` returns new ones. Its serial grows with every index
written. It is at least the time of writing, so that a repository made anew does not begin below serials that
hosts have seen.
"""

from __future__ import annotations

from typing import Final

import msgspec

from release.calling import call
from release.errors import RepositoryError, SettingsError

FORMAT: Final = 1
CHANNELS: Final = ("canary", "stable")
_SHOWN_VERSIONS: Final = 8


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """One published artefact."""

    file_name: str
    version: str
    sha256: str
    size: int  #: bytes
    python: str
    platform: str
    revision: str
    published_at: int  #: UNIX seconds
    yanked: str = ""  #: why nobody should take it; empty: it is good


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    sha256: str
    size: int
    python: str
    platform: str
    revision: str
    published_at: int
    yanked: str = ""


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    serial: int
    expires_at: int
    artefacts: dict[str, _Entry]
    channels: dict[str, str]
    repository: str = ""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository offers."""

    serial: int = 0
    expires_at: int = 0  #: UNIX seconds
    artefacts: tuple[Artefact, ...] = ()  #: in the order they were published
    channels: dict[str, str] = {}  #: channel → version
    repository: str = ""  #: id of the repository, made with its first index; empty: of the version before

    def versions(self) -> list[str]:
        """Return every version that is not yanked, the newest first."""
        return list(dict.fromkeys(entry.version for entry in reversed(self.artefacts) if not entry.yanked))

    def find(self, version: str, *, python: str, platform: str) -> Artefact:
        """Return the artefact of *version* for hosts with this Python and platform.

        Raises:
            RepositoryError: no such version (lists those there are), yanked (says why), or not built for
                these hosts (lists what it is built for).
        """
        builds = self.builds(version)
        if builds[0].yanked:
            raise RepositoryError(f"version {version} was yanked: {builds[0].yanked}; take {self._others()}")
        for entry in builds:
            if (entry.python, entry.platform) == (python, platform):
                return entry
        built = ", ".join(f"{entry.python}-{entry.platform}" for entry in builds)
        raise RepositoryError(
            f"version {version} has no build for {python}-{platform}, only for {built}; pack it for that"
        )

    def builds(self, version: str) -> list[Artefact]:
        """Return the artefacts of *version*, at least one, yanked ones too.

        Raises:
            RepositoryError: no such version; lists those there are.
        """
        builds = [entry for entry in self.artefacts if entry.version == version]
        if not builds:
            raise RepositoryError(f"there is no version {version}; there is {self._others()}")
        return builds

    def channel(self, name: str) -> str:
        """Return the version that the channel *name* points at.

        Raises:
            RepositoryError: no such channel, it is empty, or its version was yanked.
        """
        check_channel(name)
        version = self.channels.get(name)
        if not version:
            known = ", ".join(f"{key} → {value}" for key, value in sorted(self.channels.items()))
            raise RepositoryError(
                f"channel {name} names no version yet ({known or 'no channel does'}); "
                f"set it with {call(f'repo --channel {name}')}"
            )
        if (why := self.builds(version)[0].yanked) != "":
            raise RepositoryError(
                f"channel {name} names {version}, which was yanked: {why}; point it at another version with "
                f"{call(f'repo --channel {name} --release V')} ({self._others()})"
            )
        return version

    def _others(self) -> str:
        versions = self.versions()
        more = len(versions) - _SHOWN_VERSIONS
        return (
            ", ".join(versions[:_SHOWN_VERSIONS]) + (f" and {more} more" if more > 0 else "")
            or "none to take"
        )


def decode_index(payload: bytes, what: str) -> Index:
    """Return the index that *payload* holds; its signature has been checked.

    Raises:
        RepositoryError: it is damaged or of a format this version does not read.
    """
    try:
        decoded = msgspec.json.decode(payload, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"{what} is damaged: {exc}") from exc
    if decoded.format != FORMAT:
        raise RepositoryError(f"{what} has format {decoded.format}, this purgeline reads {FORMAT}; update it")
    artefacts = tuple(
        Artefact(file_name=name, **msgspec.structs.asdict(entry)) for name, entry in decoded.artefacts.items()
    )
    return Index(
        serial=decoded.serial,
        expires_at=decoded.expires_at,
        artefacts=artefacts,
        channels=decoded.channels,
        repository=decoded.repository,
    )


def encode_index(index: Index) -> bytes:
    """Return the payload of *index*."""
    entries = {}
    for artefact in index.artefacts:
        values = msgspec.structs.asdict(artefact)
        name = values.pop("file_name")
        entries[name] = _Entry(**values)
    payload = _Payload(
        serial=index.serial,
        expires_at=index.expires_at,
        artefacts=entries,
        channels=index.channels,
        repository=index.repository,
    )
    return msgspec.json.encode(payload)


def check_channel(name: str) -> None:
    """Refuse a channel that does not exist.

    Raises:
        SettingsError: lists those there are.
    """
    if name not in CHANNELS:
        raise SettingsError(f"channel {name!r}: take {' or '.join(CHANNELS)}")
