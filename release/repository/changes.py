"""Changes of an index: what is published, where a channel points, what is yanked, what is signed anew. Pure.

Each function returns a new `Index`, or the same one when there is nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from release.errors import RepositoryError, SettingsError
from release.repository.index import Artefact, check_channel

if TYPE_CHECKING:
    from release.build.manifest import Manifest
    from release.repository.index import Index


def added(index: Index, manifest: Manifest, *, sha256: str, size: int, now: float) -> Index:
    """Return *index* with one more artefact, or *index* itself when the same artefact is in it.

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


def newest(index: Index, count: int) -> Index:
    """Return *index* with the *count* versions that were published last, and those that channels name."""
    ages = {entry.version: (entry.published_at, at) for at, entry in enumerate(index.artefacts)}
    kept = {*sorted(ages, key=ages.__getitem__, reverse=True)[:count], *index.channels.values()}
    artefacts = tuple(entry for entry in index.artefacts if entry.version in kept)
    return index if artefacts == index.artefacts else msgspec.structs.replace(index, artefacts=artefacts)


def renewed(index: Index, *, now: float, ttl_s: float, seen: int = 0, repository: str = "") -> Index:
    """Return *index* as it is to be signed: the next serial, good for another *ttl_s* seconds.

    *repository* becomes its id, if it has none.
    """
    serial = max(index.serial + 1, seen + 1, int(now))
    return msgspec.structs.replace(
        index,
        serial=serial,
        expires_at=int(now + ttl_s),
        repository=index.repository or repository,
    )


def differences(old: Index, new: Index) -> list[str]:
    """Say in lines what a publisher does to get from *old* to *new*; no lines when they are alike."""
    before = {entry.file_name: entry for entry in old.artefacts}
    lines = []
    for entry in new.artefacts:
        if entry.file_name not in before:
            lines.append(f"publish {entry.file_name} ({entry.size} bytes, SHA-256 {entry.sha256})")
        elif entry != before[entry.file_name]:
            lines.append(f"yank {entry.file_name}: {entry.yanked}")
    after = {entry.file_name for entry in new.artefacts}
    lines += [f"remove {name}" for name in before if name not in after]
    for channel, version in new.channels.items():
        if old.channels.get(channel) != version:
            lines.append(f"channel {channel}: {old.channels.get(channel, 'nothing')} → {version}")
    return lines
