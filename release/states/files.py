"""The files that Salt needs on a host, as path and text: a state tree, and the operator's pillar.

Both are small and text, so they go over in one request and never become a folder on this machine.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from release.errors import ArtefactError, RepositoryError, SettingsError
from release.repository.repository import open_repository
from release.settings import ROOT, is_checkout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from release.settings import Settings

TREE: Final = ("salt", "templates")  #: folders that are a state tree
TEXT_MAX_BYTES: Final = 4 * 1024 * 1024  #: of all files of a tree or a pillar


def tree_of(settings: Settings) -> dict[str, Path]:
    """Return the folders of the state tree: the checkout's, or those that an installed wheel brought."""
    source = Path(settings.source or ROOT)
    if settings.source or is_checkout(source):
        return {part: source / part for part in TREE}
    return {"salt": ROOT / "release" / "salt", "templates": ROOT / "engine" / "templates"}


def read_tree(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the state tree of some folders, as path and text.

    Args:
        folders: by the names that they have in the tree, see `TREE`.

    Raises:
        SettingsError: there is none, or a file cannot be read as text.
    """
    texts: dict[str, str] = {}
    for part, folder in folders.items():
        texts |= _read_folder(folder, part)
    if "salt/top.sls" not in texts:
        raise SettingsError(f"{folders['salt']}: no state tree, which has a top.sls")
    return texts


def read_artefact(path: Path) -> dict[str, str]:
    """Return the state tree of an artefact, as path and text. Whoever fetched the artefact has verified it.

    Raises:
        ArtefactError: it is none, or has no state tree.
    """
    texts: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts[1:]  # without the top folder
                file = archive.extractfile(member) if member.isreg() and parts and parts[0] in TREE else None
                if file is not None:
                    texts["/".join(parts)] = file.read(TEXT_MAX_BYTES).decode()
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError) as exc:
        raise ArtefactError(f"{path}: cannot be read: {exc}") from exc
    if "salt/top.sls" not in texts:
        raise ArtefactError(f"{path}: has no state tree, which has salt/top.sls")
    return texts


def read_release(version: str, settings: Settings) -> dict[str, str]:
    """Return the state tree of a published version, as path and text.

    Raises:
        ReleaseError: there is no such version, or it cannot be had or trusted.
    """
    with open_repository("", settings) as repository, tempfile.TemporaryDirectory() as folder:
        entry = repository.index().builds(version)[0]  # each build of a version has the same tree
        if entry.yanked:
            raise RepositoryError(f"version {version} was yanked: {entry.yanked}")
        return read_artefact(repository.fetch(entry, Path(folder)))


def read_pillar(path: Path) -> dict[str, str]:
    """Return a pillar as path and text: one file for every host, or a folder with a top.sls of its own.

    Raises:
        SettingsError: it is not there or cannot be read.
    """
    if path.is_dir():
        texts = _read_folder(path, "pillar")
        if "pillar/top.sls" not in texts:
            raise SettingsError(
                f"{path}: a folder of pillar files has a top.sls, which says what is for whom"
            )
        return texts
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such pillar; copy salt/pillar.example, say there which caches you run, and name it "
            "with --pillar or as pillar in release.toml"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {exc}") from exc
    return {"pillar/hosts.sls": text, "pillar/top.sls": json.dumps({"base": {"*": ["hosts"]}})}


def _read_folder(folder: Path, name: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    size = 0
    for path in _files(folder):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"{path}: cannot be read as text: {exc}") from exc
        size += len(text)
        if size > TEXT_MAX_BYTES:
            raise SettingsError(f"{folder}: more than {TEXT_MAX_BYTES} bytes; is it the right folder?")
        texts[f"{name}/{path.relative_to(folder).as_posix()}"] = text
    return texts


def _files(folder: Path) -> Iterable[Path]:
    """Return the files that Salt may read: no hidden ones, no leftovers of Python or editors."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_left = any(part.startswith(".") or part == "__pycache__" or part.endswith("~") for part in parts)
        if path.is_file() and not is_left:
            yield path
