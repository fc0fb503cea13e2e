"""The version of a release: from the tag on the commit, given, or made from the commit itself.

A version is PEP 440 in its normal form: the tag ``V0.1.10`` and ``--release v0.1.10`` both mean ``0.1.10``.
A commit without a tag is ``0.dev<commits>+g<revision>``. `decide` is pure; `determine` asks git first.

A tag names a version when it begins as ``v1`` or ``1.2`` do. A date (``2026-11-29``) and a bare number do
not; a date that is written as a version (``2026.11.29``) is one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from packaging.version import VERSION_PATTERN, InvalidVersion, Version

from release.build import git
from release.errors import VersionError, VersionTextError

if TYPE_CHECKING:
    from pathlib import Path

_LOOKS_LIKE_VERSION: Final = re.compile(r"[vV]\d|\d+\.\d")
_LOOKS_LIKE_DATE: Final = re.compile(r"[vV]?\d{4}[-_.]\d{1,2}(?!\d)")
_PEP_440: Final = re.compile(VERSION_PATTERN, re.VERBOSE | re.IGNORECASE)
_REVISION_DIGITS: Final = 10  #: fixed: git's own choice of a length differs from clone to clone
_SHOWN_FILES: Final = 3
_MODULE: Final = '''"""Version of the engine, written when it was built."""

__version__ = "{version}"
__revision__ = "{revision}"
__built_at__ = "{built_at}"
'''


@dataclass(frozen=True, slots=True)
class Stamp:
    """A version and the commit it is made of, as they are written into ``engine/_version.py``."""

    version: str
    revision: str  #: all 40 digits
    time: int  #: of the commit, UNIX seconds
    is_dirty: bool = False  #: the work tree is taken, not the commit

    @property
    def built_at(self) -> str:
        """Time of the commit, ISO 8601."""
        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def determine(root: Path, *, release: str | None = None, allow_dirty: bool = False) -> Stamp:
    """Decide what the work tree *root* is released as.

    Args:
        root: top folder of the work tree.
        release: version asked for; ``None``: from the tag on the commit, or else from the commit.
        allow_dirty: take files that differ from the commit; the version then ends in ``.dirty`` and a
            digest of them, so that no two trees share a version.

    Raises:
        VersionError: see `decide`; also for *root* not being a work tree.
    """
    commit = git.read(root)
    if release is not None:
        _refuse_moved_tag(root, commit, normal(release, "--release"))
    return decide(commit, release=release, digest=_digest(root, commit) if allow_dirty else "")


def module_text(stamp: Stamp) -> str:
    """Return the module ``engine/_version.py`` of a release."""
    return _MODULE.format(version=stamp.version, revision=stamp.revision, built_at=stamp.built_at)


def decide(commit: git.Commit, *, release: str | None = None, digest: str = "") -> Stamp:
    """Return what *commit* is released as.

    Args:
        commit: what git says.
        release: version asked for.
        digest: names the changes when a dirty tree is allowed, empty when not.

    Raises:
        VersionError: the tree is dirty, a version is not PEP 440, or tag and version contradict each other;
            says what would be right.
    """
    if commit.changed and not digest:
        raise VersionError(_dirty_text(commit))
    tagged = _tagged(commit)
    if release is None:
        version = tagged or _of_commit(commit)
    else:
        version = normal(release, "--release")
        if tagged and tagged != version:
            raise VersionError(
                f"--release {version} contradicts the tag of this commit, {tagged}; leave --release out, or "
                f"take --release {tagged}, or the commit that is to be {version}"
            )
    if commit.changed:
        version = f"{version}{'.' if '+' in version else '+'}dirty.{digest}"
    return Stamp(version, commit.revision, commit.time, is_dirty=bool(commit.changed))


def normal(text: str, what: str = "version") -> str:
    """Return *text* in the normal form of PEP 440.

    Raises:
        VersionError: it is no such version.
    """
    try:
        version = Version(text.strip())
    except InvalidVersion:
        raise _error(
            what,
            f"{what} {text!r} is no PEP 440 version; right are 1.4.2, 1.5rc1 or V0.1.10, which means 0.1.10",
        ) from None
    if version.epoch:
        raise _error(what, f"{what} {text!r} has an epoch; take {version.public.partition('!')[2]}")
    return str(version)


def _error(what: str, text: str) -> VersionError:
    return VersionTextError(text) if what.startswith("--") else VersionError(text)


def _tagged(commit: git.Commit) -> str:
    """Return the version that the commit is tagged with, or ``""``; tags such as ``nightly`` are none."""
    versions = {_of_tag(tag): tag for tag in commit.tags if _names_version(tag)}
    if len(versions) > 1:
        raise VersionError(
            f"this commit has tags of several versions: {', '.join(sorted(versions.values()))}; leave one"
        )
    return next(iter(versions), "")


def _names_version(tag: str) -> bool:
    """Tell whether a tag is meant as a version."""
    if _LOOKS_LIKE_DATE.match(tag):
        written = _PEP_440.fullmatch(tag)
        return written is not None and not written["post_n1"]  # 2026-11 would be a post-release of 2026
    return _LOOKS_LIKE_VERSION.match(tag) is not None


def _of_tag(tag: str) -> str:
    version = normal(tag, "tag")
    written = _PEP_440.fullmatch(tag)
    if written is not None and written["post_n1"]:
        raise VersionError(f"tag {tag!r} would mean {version}; write that, or a tag that is no version")
    return version


def _of_commit(commit: git.Commit) -> str:
    if not commit.count:
        raise VersionError(
            "a shallow clone cannot count its commits, so they give no version; run git fetch --unshallow, "
            "or name one with --release"
        )
    return f"0.dev{commit.count}+g{commit.revision[:_REVISION_DIGITS]}"


def _dirty_text(commit: git.Commit) -> str:
    shown = ", ".join(commit.changed[:_SHOWN_FILES])
    more = len(commit.changed) - _SHOWN_FILES
    return (
        f"the work tree differs from its commit: {shown}{f' and {more} more' if more > 0 else ''}; commit or "
        "stash that first (--allow-dirty takes the tree as it is, for this machine only)"
    )


def _refuse_moved_tag(root: Path, commit: git.Commit, version: str) -> None:
    for tag in git.tags(root):
        if _names_version(tag) and tag not in commit.tags and _means(tag, version):
            tagged, here = git.commit_of_tag(root, tag)[:_REVISION_DIGITS], commit.revision[:_REVISION_DIGITS]
            raise VersionError(
                f"--release {version}: the tag {tag} is on commit {tagged}, and this tree stands on {here}; "
                "check that tag out, or take the next version"
            )


def _means(tag: str, version: str) -> bool:
    try:
        return str(Version(tag)) == version
    except InvalidVersion:
        return False


def _digest(root: Path, commit: git.Commit) -> str:
    """Return eight characters that name the changed files' contents.

    A letter comes first: PEP 440 drops the zeros that a number begins with.
    """
    digest = hashlib.sha256()
    for name in sorted(commit.changed):
        path = root / name
        content = path.read_bytes() if path.is_file() else b"(deleted)"
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(content).digest())
    return f"d{digest.hexdigest()[:7]}"
