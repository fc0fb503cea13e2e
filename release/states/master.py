"""Applies states through the Salt master on this machine.

A master has a state tree and a pillar of its own: only the call goes out, to minions with the names of the
inventory's hosts. What comes back is compared with the hosts that were asked: ``salt`` itself ends with 0
when a minion is down.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING, Any, Final

from release.agent.salt import states_of
from release.errors import ReleaseError, SettingsError
from release.states.results import HostStates, states_of_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.inventory import Host
    from release.settings import Settings
    from release.states.apply import Order

#: After so long without a word from a minion its master asks whether it is still at work, and gives it up if
#: it does not say so either: a minion on a busy machine takes tens of seconds to begin. Whole seconds.
SILENT_S: Final = 60


def apply(hosts: Sequence[Host], order: Order, *, settings: Settings) -> list[HostStates]:
    """Apply states through the Salt master on this machine; return what each host's minion says, in order.

    The master's ``file_roots`` need both folders of a `release.states.files.TREE`; its pillar is its own. A
    ``--timeout`` in ``salt_master`` is kept in place of `SILENT_S`.

    Raises:
        SettingsError: a host that no minion can be, or no ``salt`` program.
        ReleaseError: no answer from the master in ``step_timeout_s``.
    """
    if any(host.is_local for host in hosts):
        raise SettingsError("a Salt master reaches its minions; leave --master out for the host 'local'")
    names = [host.name for host in hosts]
    call = shlex.split(settings.salt_master)
    if not any(word.startswith("--timeout") for word in call):
        call.append(f"--timeout={SILENT_S}")
    # without --static: that pings first, and leaves out whoever is slow to answer
    call += ["--list", "--out=json", ",".join(names)]
    call += ["state.apply", *([order.states] if order.states else [])]
    call += [f"test={order.is_test}", f"pillar={json.dumps(order.pillar())}"]
    try:
        done = subprocess.run(
            call, capture_output=True, text=True, check=False, timeout=settings.step_timeout_s
        )
    except FileNotFoundError:
        raise SettingsError(
            f"{call[0]} is not there: run this on the Salt master, or say how it is called with salt_master "
            "in release.toml"
        ) from None
    except subprocess.TimeoutExpired:
        limit_s = settings.step_timeout_s
        raise ReleaseError(f"the Salt master gave no answer within {limit_s:g} s (step_timeout_s)") from None
    answers = _documents(done.stdout)
    if not answers and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise ReleaseError(f"{call[0]} ended with {done.returncode}: {said}")
    return [_minion_states(name, answers.get(name)) for name in names]


def _minion_states(name: str, answer: object) -> HostStates:
    """Read what a minion answered; nothing, false or a sentence instead of states is a failure."""
    if isinstance(answer, dict) and answer and all("_|-" in key for key in answer):
        states = states_of_answer(states_of(answer))
        failed = [state.id for state in states if state.result is False]
        reason = f"{len(failed)} of {len(states)} states failed: {', '.join(failed)}" if failed else ""
        return HostStates(
            host=name, ok=not failed, reason=reason, kind="states" if failed else "", states=states
        )
    lines = [str(line) for line in answer] if isinstance(answer, list) else [str(answer or "")]
    if not answer or "did not return" in lines[0].lower():
        reason = "its minion gave no answer: it is down, unknown to the master or cut off"
        said = " ".join(lines[0].split())  # how to look its answer up, should it come later
        reason += f"; Salt says: {said}" if said else ""
        return HostStates(host=name, ok=False, kind="missing", reason=reason)
    reason = "the states cannot be rendered: " + "\n".join(lines)
    return HostStates(host=name, ok=False, kind="render", reason=reason)


def _documents(text: str) -> dict[str, Any]:
    """Join the JSON objects that ``salt`` printed, one or several, with other lines between them."""
    joined: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            joined |= document
        at = text.find("{", end)
    return joined
