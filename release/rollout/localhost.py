"""The host ``local``: this machine, with a folder for the installation, without SSH or root.

A version that the configured repository does not have is packed from this tree, uncommitted files included,
and published to a repository of this machine's own under ``dist/local``, signed by a key that is made there
and trusted for this host only. The configured repository and its keys are never written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from release.build import packing, version
from release.errors import ReleaseError, RepositoryError
from release.repository import signing
from release.repository.repository import open_repository
from release.settings import source_of

if TYPE_CHECKING:
    from release.hosts.target import Wanted
    from release.repository.repository import Repository
    from release.rollout.display import Display
    from release.rollout.plan import HostState
    from release.settings import Settings

CONFIG: Final = """\
# Configuration of the engine; yours to edit: docs/configuration.md of the project tells what there is.
# `inv reload` makes it current.

[engine]
listen = "{listen}"
data_dir = "var"  # in the folder of this file
"""
LISTEN: Final = "127.0.0.1:9181"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the version comes from."""

    wanted: Wanted
    settings: Settings
    is_packed: bool = True  #: False only with ``--dry-run``, which packs nothing


def prepare(wanted: Wanted, settings: Settings, state: HostState, display: Display) -> Source:
    """Make sure of a configuration and of a repository with the version; return where the version comes from.

    With ``--repository`` nothing is packed, and with ``--dry-run`` nothing is written.

    Raises:
        ReleaseError: this tree cannot be packed or published.
    """
    if not wanted.is_dry:
        write_config(Path(settings.root) / "shared" / "engine.toml", wanted.listen or LISTEN)
    if wanted.repository or (wanted.release and _has(settings, wanted.release)):
        return Source(wanted=wanted, settings=settings)
    tree = version.determine(source_of(settings), release=wanted.release or None, allow_dirty=True)
    chosen = msgspec.structs.replace(wanted, release=tree.version)
    folder = source_of(settings) / "dist" / "local"
    if wanted.is_dry and not _key_in(folder).exists():
        return Source(wanted=chosen, settings=settings, is_packed=False)
    own = _own_settings(settings, state, folder)
    with open_repository("", own) as opened:
        is_packed = _is_published(opened, tree.version)
        if not is_packed and not wanted.is_dry:
            _publish(opened, wanted.release, tree, own, display)
            is_packed = True
    return Source(wanted=chosen, settings=own, is_packed=is_packed)


def write_config(path: Path, listen: str) -> None:
    """Write a first configuration, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(CONFIG.format(listen=listen))
    except FileExistsError:
        return


def _has(settings: Settings, release: str) -> bool:
    """Tell whether the configured repository can be read and has a version."""
    try:
        with open_repository("", settings) as opened:
            opened.index().builds(version.normal(release, "--release"))
    except ReleaseError:  # not there, not trusted, not so: then this tree is packed
        return False
    return True


def _key_in(folder: Path) -> Path:
    return folder / "release.key"


def _own_settings(settings: Settings, state: HostState, folder: Path) -> Settings:
    key_file = _key_in(folder)
    public = (
        signing.public_text(signing.load_keys(key_file)[0])
        if key_file.exists()
        else signing.new_key(key_file)
    )
    return msgspec.structs.replace(
        settings,
        repository=str(folder / "repository"),
        key_file=str(key_file),
        trusted_keys=[public],
        python=state.python,
        platform=state.platform,
    )


def _is_published(opened: Repository, wanted: str) -> bool:
    try:
        return wanted in opened.index().versions()
    except RepositoryError as exc:
        if "expired" in str(exc):
            return wanted in opened.refresh().index.versions()
        return False


def _publish(opened: Repository, release: str, tree: version.Stamp, own: Settings, display: Display) -> None:
    if tree.is_dirty:
        display.say(f"this tree differs from its commit: packed as {tree.version}, for this machine only")
    with display.status(f"pack {tree.version}") as status:
        built = packing.build(
            release=release or None,
            out=Path(own.key_file).parent,
            allow_dirty=True,
            settings=own,
            self_test=False,  # unpacking does the same, a moment later
            say=lambda step: status(f"pack: {step}"),
        )
    display.say(f"packed {built.path.name} ({built.size / 1e6:.1f} MB)")
    opened.publish(built.path)
    built.path.unlink()  # the repository has it
