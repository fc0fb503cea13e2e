"""The host ``local``: this machine, with a folder for the installation, without SSH or root.

A version that the configured repository does not have is packed from this tree, uncommitted files included,
and published to a repository of this machine's own under ``dist/local``, signed by a key that is made there
and trusted for this host only. The configured repository and its keys are never written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from release.build import packing, version
from release.errors import ReleaseError, RepositoryError
from release.repository import signing
from release.repository.repository import open_repository
from release.rollout.exits import GateError
from release.settings import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from release.hosts.target import Wanted
    from release.repository.index import Index
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
KEPT_COUNT: Final = 8  #: versions that this machine's own repository keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the version comes from."""

    wanted: Wanted
    settings: Settings
    is_packed: bool = True  #: False only with ``--dry-run``, which packs nothing


def prepare(wanted: Wanted, settings: Settings, state: HostState, display: Display) -> Source:
    """Make sure of a repository with the version; return where the version comes from.

    With ``--repository`` nothing is packed, and with ``--dry-run`` nothing is written.

    Raises:
        ReleaseError: the folder cannot be written, or this tree cannot be packed or published.
    """
    _need_writable(Path(settings.root))
    if wanted.repository or (wanted.release and _has(settings, wanted.release, state)):
        return Source(wanted=wanted, settings=settings)
    tree = version.determine(source_of(settings), release=wanted.release or None, allow_dirty=True)
    refuse_yanked(settings, tree.version)
    chosen = msgspec.structs.replace(wanted, release=tree.version)
    folder = source_of(settings) / "dist" / "local"
    if wanted.is_dry and not _key_in(folder).exists():
        return Source(wanted=chosen, settings=settings, is_packed=False)
    with _alone(folder, display, is_dry=wanted.is_dry):
        own = _own_settings(settings, state, folder)
        with open_repository("", own) as opened:
            is_packed = is_published(
                opened, tree.version, state, is_dry=wanted.is_dry, revision=tree.revision
            )
            if not is_packed and not wanted.is_dry:
                _publish(opened, wanted.release, tree, own, display)
                is_packed = True
    return Source(wanted=chosen, settings=own, is_packed=is_packed)


@contextlib.contextmanager
def _alone(folder: Path, display: Display, *, is_dry: bool) -> Iterator[None]:
    """Keep other deploys from this tree waiting while one packs and publishes; they find what it made."""
    if is_dry:
        yield
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / ".lock").open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                display.say("another deploy packs this tree, that is waited for")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as exc:
        raise GateError(f"{exc.filename or folder}: cannot be written: {exc.strerror}") from exc


def _need_writable(root: Path) -> None:
    """See that the installation's folder can be made and written, before minutes go into packing.

    Raises:
        GateError: it cannot.
    """
    folder = root
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise GateError(f"{root}: {folder} cannot be written; --root takes a folder of yours")


def begin(wanted: Wanted, settings: Settings, state: HostState) -> None:
    """Write the configuration that the engine is about to run with."""
    write_config(_config_in(settings), wanted.listen, is_running=state.running != "")


def write_config(path: Path, listen: str, *, is_running: bool = False) -> None:
    """Write a first configuration. One that nobody has edited and nothing runs with is written anew.

    Args:
        path: of the configuration.
        listen: address, empty for that of the configuration or the default.
        is_running: an engine runs there.

    Raises:
        GateError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if listen and not is_running and _is_as_written(path):
            path.unlink()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(CONFIG.format(listen=listen or LISTEN))
    except FileExistsError:
        return
    except OSError as exc:
        raise GateError(f"{path}: cannot be written: {exc.strerror}; --root takes a folder of yours") from exc


def as_planned(wanted: Wanted, settings: Settings, states: dict[str, HostState]) -> dict[str, HostState]:
    """Return the states, without the address of a configuration that `prepare` will write anew."""
    if not wanted.is_local or not _is_as_written(_config_in(settings)):
        return states
    return {
        name: state if state.running else msgspec.structs.replace(state, listen="")
        for name, state in states.items()
    }


def _config_in(settings: Settings) -> Path:
    return Path(settings.root) / "shared" / "engine.toml"


def _is_as_written(path: Path) -> bool:
    """Tell whether a configuration is there, and only the address in it can be told from `CONFIG`."""
    form = re.escape(CONFIG).replace(re.escape("{listen}"), '[^"\n]*')
    try:
        return re.fullmatch(form, path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _has(settings: Settings, release: str, state: HostState) -> bool:
    """Tell whether the configured repository can be read and has a version for this machine."""
    try:
        with open_repository("", settings) as opened:
            return has_build(opened.index(), version.normal(release, "--release"), state)
    except ReleaseError:  # not there, not trusted, not so: then this tree is packed
        return False


def refuse_yanked(settings: Settings, wanted: str) -> None:
    """Refuse to pack a version that the configured repository calls yanked.

    Raises:
        RepositoryError: says why it was yanked.
    """
    try:
        with open_repository("", settings) as opened:
            why = opened.index().builds(wanted)[0].yanked
    except ReleaseError:  # not there, not trusted, or without that version
        return
    if why:
        raise RepositoryError(f"version {wanted} was yanked: {why}; take a new version")


def has_build(index: Index, wanted: str, state: HostState) -> bool:
    """Tell whether an index has a version for the Python and the platform of a host."""
    tags = (wanted, state.python, state.platform)
    return tags in {(entry.version, entry.python, entry.platform) for entry in index.artefacts}


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


def is_published(
    opened: Repository, wanted: str, state: HostState, *, is_dry: bool, revision: str = ""
) -> bool:
    """Tell whether a version is there for this machine; an index that has expired is signed anew for that.

    Raises:
        RepositoryError: it is there, made from another commit than *revision*.
    """
    try:
        index = opened.index()
    except RepositoryError as exc:
        if "expired" not in str(exc) or is_dry:
            return False
        index = opened.refresh().index
    for entry in index.artefacts:
        if entry.version == wanted and revision and entry.revision != revision:
            raise RepositoryError(
                f"version {wanted} is published with other bytes: made from commit {entry.revision[:10]}, "
                f"and this tree stands on {revision[:10]}; a published version never changes: "
                "take a new version"
            )
    return has_build(index, wanted, state)


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
            pure=True,  # who tries it out should not wait minutes for a compiler
            say=lambda step: status(f"pack: {step}"),
        )
    display.say(f"packed {built.path.name} ({built.size / 1e6:.1f} MB)")
    try:
        opened.publish(built.path)
    finally:
        built.path.unlink()  # the repository has it, or it is packed again
    opened.keep_newest(KEPT_COUNT)
