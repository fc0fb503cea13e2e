"""The index of a repository: which artefacts there are, and which version each channel names. Pure.

An `Index` is never changed; `added`, `pointed`, `yanked` and `renewed` return a new one, or the same one when
there is nothing to do. Its serial grows with every index written. It is at least the time of writing, so that
a repository made anew does not begin below serials that hosts have seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from release.errors import RepositoryError, SettingsError

if TYPE_CHECKING:
    from release.build.artefact import Manifest

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


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository offers."""

    serial: int = 0
    expires_at: int = 0  #: UNIX seconds
    artefacts: tuple[Artefact, ...] = ()  #: in the order they were published
    channels: dict[str, str] = {}  #: channel → version

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
        there = ", ".join(f"{entry.python}-{entry.platform}" for entry in builds)
        raise RepositoryError(
            f"version {version} has no build for {python}-{platform}, only for {there}; pack it for that"
        )

    def builds(self, version: str) -> list[Artefact]:
        """Return the artefacts of *version*, at least one, yanked ones too.

        Raises:
            RepositoryError: no such version; lists those there are.
        """
        found = [entry for entry in self.artefacts if entry.version == version]
        if not found:
            raise RepositoryError(f"there is no version {version}; there is {self._others()}")
        return found

    def channel(self, name: str) -> str:
        """Return the version that the channel *name* points at.

        Raises:
            RepositoryError: no such channel, it is empty, or its version was yanked.
        """
        check_channel(name)
        version = self.channels.get(name)
        if not version:
            there = ", ".join(f"{key} → {value}" for key, value in sorted(self.channels.items()))
            raise RepositoryError(
                f"channel {name} names no version yet ({there or 'no channel does'}); "
                f"set it with inv repo --channel {name}"
            )
        if (why := self.builds(version)[0].yanked) != "":
            raise RepositoryError(
                f"channel {name} names {version}, which was yanked: {why}; point it at another version with "
                f"inv repo --channel {name} --release V ({self._others()})"
            )
        return version

    def _others(self) -> str:
        versions = self.versions()
        more = len(versions) - _SHOWN_VERSIONS
        return (
            ", ".join(versions[:_SHOWN_VERSIONS]) + (f" and {more} more" if more > 0 else "")
            or "none to take"
        )


def decode(payload: bytes, what: str) -> Index:
    """Return the index that *payload* holds; its signature has been checked.

    Raises:
        RepositoryError: it is damaged or of a format this version does not read.
    """
    try:
        found = msgspec.json.decode(payload, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"{what} is damaged: {exc}") from exc
    if found.format != FORMAT:
        raise RepositoryError(f"{what} has format {found.format}, this purgeline reads {FORMAT}; update it")
    artefacts = tuple(
        Artefact(file_name=name, **msgspec.structs.asdict(entry)) for name, entry in found.artefacts.items()
    )
    return Index(
        serial=found.serial, expires_at=found.expires_at, artefacts=artefacts, channels=found.channels
    )


def encode(index: Index) -> bytes:
    """Return the payload of *index*."""
    entries = {}
    for artefact in index.artefacts:
        values = msgspec.structs.asdict(artefact)
        name = values.pop("file_name")
        entries[name] = _Entry(**values)
    payload = _Payload(
        serial=index.serial, expires_at=index.expires_at, artefacts=entries, channels=index.channels
    )
    return msgspec.json.encode(payload)


def check_channel(name: str) -> None:
    """Refuse a channel that does not exist.

    Raises:
        SettingsError: lists those there are.
    """
    if name not in CHANNELS:
        raise SettingsError(f"channel {name!r}: take {' or '.join(CHANNELS)}")


def added(index: Index, manifest: Manifest, *, sha256: str, size: int, now: float) -> Index:
    """Return *index* with one more artefact, or *index* itself when it has the very same.

    Raises:
        RepositoryError: the version is there with other bytes, from another commit, or was yanked.
    """
    for entry in index.artefacts:
        if entry.version != manifest.version:
            continue
        if entry.yanked:
            raise RepositoryError(
                f"version {entry.version} was yanked: {entry.yanked}; publish a new version"
            )
        if entry.revision != manifest.revision:
            raise RepositoryError(
                f"version {entry.version} is published, made from commit {entry.revision[:10]}, and this one "
                f"from {manifest.revision[:10]}; a published version never changes: take a new version"
            )
        if entry.file_name == manifest.file_name:
            if (entry.sha256, entry.size) == (sha256, size):
                return index
            raise RepositoryError(
                f"version {entry.version} is published with other bytes (SHA-256 {entry.sha256[:12]}…, this "
                f"one {sha256[:12]}…); a published version never changes: take a new version"
            )
    artefact = Artefact(
        file_name=manifest.file_name,
        version=manifest.version,
        sha256=sha256,
        size=size,
        python=manifest.python,
        platform=manifest.platform,
        revision=manifest.revision,
        published_at=int(now),
    )
    return msgspec.structs.replace(index, artefacts=(*index.artefacts, artefact))


def pointed(index: Index, channel: str, version: str) -> Index:
    """Return *index* with *channel* naming *version*.

    Raises:
        RepositoryError: no such version, or it was yanked.
        SettingsError: no such channel.
    """
    check_channel(channel)
    if (why := index.builds(version)[0].yanked) != "":
        raise RepositoryError(f"version {version} was yanked: {why}; no channel may name it")
    if index.channels.get(channel) == version:
        return index
    return msgspec.structs.replace(index, channels={**index.channels, channel: version})


def yanked(index: Index, version: str, reason: str) -> Index:
    """Return *index* with all builds of *version* marked as not to be taken. Channels are left as they are.

    Raises:
        RepositoryError: no such version.
        SettingsError: no reason is given.
    """
    if not reason.strip():
        raise SettingsError(f"--yank {version} needs --reason TEXT: others will read it when they ask for it")
    builds = index.builds(version)
    if all(entry.yanked == reason.strip() for entry in builds):
        return index
    artefacts = tuple(
        msgspec.structs.replace(entry, yanked=reason.strip()) if entry.version == version else entry
        for entry in index.artefacts
    )
    return msgspec.structs.replace(index, artefacts=artefacts)


def renewed(index: Index, *, now: float, ttl_s: float, seen: int = 0) -> Index:
    """Return *index* as it is to be signed: the next serial, good for another *ttl_s* seconds."""
    serial = max(index.serial + 1, seen + 1, int(now))
    return msgspec.structs.replace(index, serial=serial, expires_at=int(now + ttl_s))


def differences(old: Index, new: Index) -> list[str]:
    """Say what has to be done to get from *old* to *new*, a line for each thing; none when it is nothing."""
    before = {entry.file_name: entry for entry in old.artefacts}
    lines = []
    for entry in new.artefacts:
        if entry.file_name not in before:
            lines.append(f"publish {entry.file_name} ({entry.size} bytes, SHA-256 {entry.sha256})")
        elif entry != before[entry.file_name]:
            lines.append(f"yank {entry.file_name}: {entry.yanked}")
    for channel, version in new.channels.items():
        if old.channels.get(channel) != version:
            lines.append(f"channel {channel}: {old.channels.get(channel, 'nothing')} → {version}")
    return lines
