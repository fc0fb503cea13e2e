"""Versions: whether the engines that work together are of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.check import Check, Verdict, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.store.redis.members import Member


class Asked(NamedTuple):
    """What came of asking an engine for its version."""

    url: str
    version: str  #: empty: it did not answer
    error: str = ""
    is_named: bool = False  #: somebody gave its address; else it is where the configuration listens


def engine(asked: Asked) -> Check:
    """Check whether an engine answers."""
    name = f"engine {asked.url}" if asked.is_named else "engine"
    if asked.version:
        return Check(name, Verdict.OK, asked.version)
    if asked.is_named:
        return Check(name, Verdict.FAIL, "", "", asked.error, "./inv status; purgeline version")
    reason = f"none answers at {asked.url}: what only a running engine shows is not looked at ({asked.error})"
    return unknown(name, reason)


def versions(asked: Iterable[Asked], members: Sequence[Member]) -> Check:
    """Check that all engines have the same version: those of one Redis, and those that were asked."""
    by_version: dict[str, list[str]] = {}
    for one in members:
        if one.lives and not one.has_left:
            by_version.setdefault(one.about.version, []).append(one.about.name)
    for answer in asked:
        if answer.version:
            by_version.setdefault(answer.version, []).append(answer.url)
    if not by_version:
        return unknown("versions", "no engine answers")
    if len(by_version) == 1:
        [version] = by_version
        return Check("versions", Verdict.OK, version, "one version")
    reason = "; ".join(
        f"{version or 'none'}: {', '.join(dict.fromkeys(names))}"
        for version, names in sorted(by_version.items())
    )
    remedy = "./inv status, ./inv deploy for those left behind; during a deploy this is as it should be"
    return Check("versions", Verdict.WARN, f"{len(by_version)} versions", "one version", reason, remedy)
