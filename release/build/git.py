"""What the pipeline asks git about this work tree. Nothing here changes it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from release.errors import VersionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: What a release is made of. A change elsewhere that git does not know of yet does not make a tree dirty.
SHIPPED: Final = (
    *("pyproject.toml", "README.md", "LICENSE", "requirements.lock"),
    *("engine", "release", "salt", "templates"),
)
#: A user's own settings change neither names, line ends nor modes of what is exported.
_SETTINGS: Final = (
    *("-c", "core.quotePath=false", "-c", "core.autocrlf=false", "-c", "core.eol=lf"),
    *("-c", "tar.umask=0022"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The commit a work tree stands on."""

    revision: str  #: all 40 digits
    time: int  #: of the commit, UNIX seconds
    count: int  #: commits up to this one; 0 in a shallow clone, where git does not know
    tags: tuple[str, ...]  #: tags on this commit
    changed: tuple[str, ...]  #: files that differ from it, and unknown ones among `SHIPPED`


def read(root: Path) -> Commit:
    """Look at the work tree *root*.

    Raises:
        VersionError: it is no work tree of git, or has no commit yet.
    """
    revision, time = _text(root, "log", "-1", "--format=%H %ct").split()
    is_shallow = _text(root, "rev-parse", "--is-shallow-repository").strip() == "true"
    unknown = _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *SHIPPED)
    return Commit(
        revision=revision,
        time=int(time),
        count=0 if is_shallow else int(_text(root, "rev-list", "--count", "HEAD")),
        tags=tuple(_text(root, "tag", "--points-at", "HEAD").split()),
        changed=(*_names(root, "diff", "-z", "--name-only", "--no-renames", "HEAD"), *unknown),
    )


def commit_of_tag(root: Path, tag: str) -> str:
    """Return the revision that *tag* names, or ``""`` when there is no such tag."""
    printed = _git(root, ("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}"), check=False)
    return printed.decode().strip()


def tags(root: Path) -> list[str]:
    """Return every tag of the repository."""
    return _text(root, "tag").split()


def tar_of(root: Path, revision: str) -> bytes:
    """Return a tar of the `SHIPPED` files of *revision*, as git holds them."""
    tracked = set(_names(root, "ls-tree", "-z", "--name-only", revision))
    return _git(
        root, ("archive", "--format=tar", revision, "--", *(name for name in SHIPPED if name in tracked))
    )


def work_files(root: Path) -> list[str]:
    """Return the names of the `SHIPPED` files in the work tree, files that git does not know yet included."""
    names = _names(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SHIPPED)
    return sorted({name for name in names if (root / name).is_file()})


def _names(root: Path, *args: str) -> list[str]:
    return [name for name in _text(root, *args).split("\0") if name]


def _text(root: Path, *args: str) -> str:
    return _git(root, args).decode("utf-8", "surrogateescape")


def _git(root: Path, args: Sequence[str], *, check: bool = True) -> bytes:
    # What a hook or a surrounding git command sets would make git look at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *_SETTINGS, *args], check=False, capture_output=True, env=environment
        )
    except FileNotFoundError:
        raise VersionError("git is not installed; a release's version and files come from it") from None
    if check and done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise VersionError(f"git {args[0]} in {root}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout
