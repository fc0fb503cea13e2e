"""What states did, or would do, on hosts; secrets are taken out where a host's answer comes in.

Secrets of the configuration are not shown, neither on a screen nor in JSON: a diff names the key and hides
its value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HIDDEN: Final = "(hidden)"
_SECRET: Final = re.compile(r"""(?m)^([-+ ]?\s*"?(?:secret|sha256|headers)"?\s*=\s*).*$""")


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
    return [msgspec.convert(hide(entry), State) for entry in entries]


def hide(value: Any) -> Any:
    """Return *value* with the secrets in its texts replaced by `HIDDEN`."""
    if isinstance(value, str):
        return _SECRET.sub(rf"\1{HIDDEN}", value)
    if isinstance(value, dict):
        return {name: hide(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [hide(inner) for inner in value]
    return value
