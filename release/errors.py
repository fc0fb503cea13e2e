"""Errors of the release pipeline, branched by who must act.

Every error carries a sentence for a person: what is wrong and what would be right. Tasks print it and
leave with exit code 1; a traceback is a defect.
"""

from __future__ import annotations


class ReleaseError(Exception):
    """Base of every error raised by the pipeline."""


class SettingsError(ReleaseError):
    """Settings, inventory or arguments cannot be used; the text names the key and what it takes."""


class VersionError(ReleaseError):
    """This tree cannot be released under this version."""


class VersionTextError(SettingsError, VersionError):
    """A version that was given as an argument is none."""


class ArtefactError(ReleaseError):
    """An artefact is missing, damaged, or not what was asked for."""


class RepositoryError(ReleaseError):
    """The repository cannot be read, written or trusted."""


class HostError(ReleaseError):
    """A step failed on one host.

    Args:
        host: its name in the inventory.
        reason: one sentence.
        kind: machine-readable kind, as the agent answers it; ``"unreachable"`` when nobody answered.
        log: last lines that tell more, such as those of a worker that did not start.
    """

    def __init__(self, host: str, reason: str, *, kind: str = "", log: list[str] | None = None) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.reason = reason
        self.kind = kind
        self.log = log or []


class LockedError(ReleaseError):
    """Somebody else is deploying; the text says who, where, since when and why."""
