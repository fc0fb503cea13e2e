"""What states did, or would do, on hosts; secrets are taken out where a host's answer comes in.

Secrets of the configuration are not shown, neither on a screen nor in JSON: a diff names the key and hides
its value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from release.agent.redact import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One state on one host."""

    id: str
    function: str
    name: str
    result: bool | None  #: none: it would change something
    comment: str
    changes: dict[str, Any] = {}


class HostStates(msgspec.Struct, frozen=True, kw_only=True):
    """What the states did, or would do, on one host."""

    host: str
    ok: bool
    reason: str = ""  #: of the failure
    kind: str = ""  #: of the failure: ``states``, ``render``, ``missing``, or as `Outcome.kind` has it
    log: list[str] = []
    states: list[State] = []

    @property
    def changed(self) -> list[State]:
        """The states that changed something, or would."""
        return [state for state in self.states if state.changes or state.result is None]

    @property
    def failed(self) -> list[State]:
        """The states that failed."""
        return [state for state in self.states if state.result is False]


def states_of_answer(entries: Sequence[Mapping[str, Any]]) -> list[State]:
    """Return the states in an answer of `release.agent.salt`, without secrets."""
    return [msgspec.convert(redact(entry), State) for entry in entries]
