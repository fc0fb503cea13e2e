"""The deploy lock on all hosts of a run: taken on every one or on none, kept alive, given back.

The first host by name is the gatekeeper: it is locked first, so of two runs that begin at once over the same
hosts exactly one gets them, rather than each a part. A thread renews the lock; when a host says that it is
somebody else's now, the run has to stop before its next step. A controller that is killed leaves its lock:
it is stale after ``lock_ttl_s`` without a heartbeat, and a new run on the same machine releases it at once.
Whoever takes a lock that is not given back says why; that is printed, and noted in the host's history.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from release.calling import call
from release.errors import LockedError
from release.hosts.journal import who

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from release.hosts.journal import Journal, Run
    from release.hosts.remote import Fleet, Outcome

LOCK_TIMEOUT_S: Final = 30.0  #: for one lock operation on one host
LAST_TIMEOUT_S: Final = 60.0
BEATS_PER_TTL: Final = 4
LOCKED: Final = "locked"  #: kind of a refusal, as the agent names it


class HostsLock:
    """The lock of *run* on the hosts *names*; a context that holds that lock.

    Args:
        fleet: the hosts.
        run: who, why, and the token.
        names: hosts to lock.
        ttl_s: without a heartbeat for so long it is stale; 0: a manual one, which never is.
        say: takes sentences for a person.
    """

    def __init__(
        self,
        fleet: Fleet,
        run: Run,
        names: Sequence[str],
        *,
        ttl_s: float,
        say: Callable[[str], object] = lambda _text: None,
    ) -> None:
        self._fleet = fleet
        self._run = run
        self._names = sorted(names)
        self._ttl_s = ttl_s
        self._say = say
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self.lost = ""  #: why it is no longer ours; empty while it is
        self.still_locked: list[str] = []  #: hosts that could not be unlocked
        self.last: tuple[str, dict[str, object]] | None = None  #: operation that is done with the unlocking

    def __enter__(self) -> Self:
        self.acquire()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if kind is KeyboardInterrupt:  # steps may still be under way there: nobody else should begin now
            self._say("the hosts stay locked; the next run on this machine takes that over")
            return
        self.release()

    def acquire(self) -> None:
        """Lock all hosts.

        Raises:
            LockedError: one at least is somebody else's or cannot be locked; then none is ours.
        """
        held: list[str] = []
        for names in (self._names[:1], self._names[1:]):
            outcomes = self._fleet.run("lock", self._request, hosts=names, timeout_s=LOCK_TIMEOUT_S)
            held += [name for name, outcome in outcomes.items() if outcome.ok or not outcome.is_answered]
            refused = [outcome for outcome in outcomes.values() if not outcome.ok]
            if refused:
                self._unlock(held)
                raise _refusal(refused)

    def release(self) -> None:
        """Do the `last` operation and unlock all hosts, in one call of each.

        A host that cannot be reached is told of, and noted in `still_locked`.
        """
        names = self._names
        if self.last is not None:
            op, request = self.last
            asked = {**request, "token": self._run.token, "unlock": True}
            outcomes = self._fleet.run(op, asked, hosts=names, timeout_s=LAST_TIMEOUT_S)
            names = [name for name, outcome in outcomes.items() if not outcome.ok]
            for name in names:
                self._say(f"{name}: {op} failed: {outcomes[name].reason}")
        for outcome in self._unlock(names).values():
            if not outcome.is_answered:
                self.still_locked.append(outcome.host)
                self._say(
                    f"{outcome.host}: its lock could not be released ({outcome.reason}); the next run on "
                    f"this machine does it, others can take it over after {self._ttl_s:g} s"
                )

    def _request(self, _name: str) -> dict[str, object]:
        run = self._run
        return {
            "token": run.token,
            "who": run.who,
            "where": run.where,
            "machine": run.machine,
            "controller_boot": run.controller_boot,
            "why": run.why,
            "ttl_s": self._ttl_s,
            "deploy_id": run.deploy_id,
        }

    def _unlock(self, names: Sequence[str]) -> dict[str, Outcome]:
        return self._fleet.run("unlock", {"token": self._run.token}, hosts=names, timeout_s=LOCK_TIMEOUT_S)

    def _beat(self) -> None:
        while not self._ended.wait(self._ttl_s / BEATS_PER_TTL):
            outcomes = self._fleet.run(
                "heartbeat", {"token": self._run.token}, hosts=self._names, timeout_s=LOCK_TIMEOUT_S
            )
            # A host that cannot be asked may be down: its step will tell. One that refuses is not ours.
            refused = [outcome for outcome in outcomes.values() if not outcome.ok and outcome.is_answered]
            if refused and not self._ended.is_set():
                self.lost = "; ".join(f"{outcome.host}: {outcome.reason}" for outcome in refused)


def locked(reasons: Mapping[str, str]) -> LockedError:
    """Return the error for hosts that somebody else holds; *reasons* say who, by host."""
    lines = "\n".join(f"  {host}: {reason}" for host, reason in reasons.items())
    return LockedError(
        f"locked by somebody else:\n{lines}\n"
        "  wait for it to end; if it is dead, it can be taken over after its time, or at once by:\n"
        f"  {call('unlock')} --force --why REASON --host {','.join(reasons)}"
    )


def _refusal(refused: Sequence[Outcome]) -> LockedError:
    reasons = {outcome.host: outcome.reason for outcome in refused}
    if any(outcome.kind == LOCKED for outcome in refused):
        return locked(reasons)
    lines = "\n".join(f"  {host}: {reason}" for host, reason in reasons.items())
    return LockedError(f"the deploy lock cannot be taken:\n{lines}")


def take_over(
    fleet: Fleet, journal: Journal, names: Sequence[str], say: Callable[[str], object]
) -> list[Run]:
    """Release what ended runs of this machine still hold on *names*; return those runs, the oldest first."""
    runs = journal.abandoned(fleet.root, names)
    ended = {entry.get("deploy_id") for entry in journal.read() if entry.get("phase") == "end"}
    for run in runs:
        hosts = [name for name in names if name in run.hosts]
        why = f"{run.why} was killed on {run.where}, which releases its lock"
        request = {"token": run.token, "why": why, "who": who()}
        outcomes = fleet.run("unlock", request, hosts=hosts, timeout_s=LOCK_TIMEOUT_S)
        if set(run.hosts) == set(hosts) and all(outcome.is_answered for outcome in outcomes.values()):
            journal.end(run.deploy_id)  # else its token is needed once more
        what = f"{run.action} {run.version} ({run.deploy_id}, by {run.who})"
        if run.deploy_id not in ended:
            say(f"{what} was killed on this machine; its lock is released, and what it did is left as it is")
    return runs
