"""The verification of one task: which of its subtasks are looked at, and what that came to.

A share that nothing is sent of stands behind each node's last one: it is told, target by target, what was
acked, as the second purges of a rebound are. Nothing of this is on the way of a task that is not verified.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from engine.proof.again import purge_again
from engine.proof.comparison import Judgement, Rule, Verdict
from engine.proof.looks import Ask, Look
from engine.tasks import documents
from engine.tasks.words import ACKED, DELAYED, HARD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.proof.lookout import Lookout
    from engine.tasks.task import Share, Task
    from engine.tasks.verify import Verify

    _Visited = tuple[Judgement, Sequence[str]]  # the SHA-256 of what visitors with each encoding get

_WINDOW_LEAST_S: Final = 5.0  #: in which visits are made, whatever is left until the task is due
_PARENTS_S: Final = 30.0  #: for which an edge's second purge waits for its parents' verification
_LATE: Final = "purged late: the node could not be reached, or did not take it"
_SEVERITY: Final = {Verdict.VERIFIED: 0, Verdict.UNVERIFIABLE: 1, Verdict.STALE: 2}


class Verification:
    """Looks at what a task purged; see `engine.tasks.task.Rebounds`.

    Args:
        task: of a client, about to be expanded.
        verify: its own.
        lookout: of the engine.
        left_s: until the task is due.
        on_over: told when all is looked at.
    """

    def __init__(
        self,
        task: Task,
        verify: Verify,
        lookout: Lookout,
        *,
        left_s: float,
        on_over: Callable[[Task], None],
    ) -> None:
        assert task.plan is not None
        self._task = task
        self._verify = verify
        self._lookout = lookout
        self._on_over = on_over
        self._began_at = time.monotonic()
        window_s = max(left_s, _WINDOW_LEAST_S)
        self._until = self._began_at + 2 * window_s
        names = [step.node for step in task.plan.steps]
        self._operations = {step.node: step.operation for step in task.plan.steps}
        self._parents = {step.node: [names[place] for place in step.parents] for step in task.plan.steps}
        self._urls: Sequence[str] = verify.asked.urls or task.targets
        self._is_wide = verify.asked.mode == "urls"
        self._chosen = self._choose(names, window_s)
        self._left = len(names) * (len(self._urls) if self._is_wide else self._chosen_count)
        self._over: dict[tuple[str, int], list[asyncio.Future[None]] | None] = {}
        self._verified_at: dict[str, float] = {}  # by layer
        self._not_fresh: set[str] = set()  # layers
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<Verification of {self._task.id} [{self._left} left]>"

    # What is looked at

    @property
    def _chosen_count(self) -> int:
        return len(self._urls) if self._chosen is None else len(self._chosen)

    def _choose(self, names: list[str], window_s: float) -> frozenset[int] | None:
        """Return the places of the targets that are looked at, the same on all nodes; None: all of them."""
        asked, count = self._verify.asked, len(self._urls)
        if self._is_wide:
            return None
        wanted = count if asked.mode == "all" else min(asked.count, count)
        each = max(1, len(self._lookout.looks.encodings(self._urls[0])))
        room = min(self._lookout.lane(name).room(window_s) for name in names) // each
        if max(1, room) < wanted:
            wanted = max(1, room)
            document = self._verify.document
            document.mode = "sample"
            document.note = f"{wanted} of {count} targets: rate_per_s allows no more visits until it is due"
        return None if wanted == count else frozenset(random.sample(range(count), wanted))

    def unblocked(self, share: Share, ready: list[int]) -> None:
        """Have what was acked on a node looked at; *share* is the one behind its last."""
        if self._is_stopped:
            return
        [last] = share.parents
        if self._is_wide:
            self._unblocked_wide(share, last)
            return
        chosen = self._chosen
        for index in ready if chosen is None else [index for index in ready if index in chosen]:
            if last.states[index] == ACKED:
                self._look_later(share, index)
            else:
                self._pass_over(share, index, last.states[index])

    def _unblocked_wide(self, share: Share, last: Share) -> None:
        """Look at the URLs of a wide purge when all of it was acked on a node."""
        assert share.blockers is not None
        if any(share.blockers):
            return
        others = [state for state in last.states if state != ACKED]
        for place in range(len(self._urls)):
            if others:
                self._pass_over(share, place, DELAYED if DELAYED in others else others[0])
            else:
                self._look_later(share, place)

    def _look_later(self, share: Share, place: int) -> None:
        url = self._urls[place]
        visits = len(self._lookout.looks.encodings(url))
        job = partial(self._look, share, place, time.monotonic())
        self._lookout.lane(share.node.name).add(visits, job)

    def _pass_over(self, share: Share, place: int, state: int) -> None:
        """Leave out what was not acked: it failed, or waits for its node."""
        if state == DELAYED:
            self._count(share, place, Judgement(Verdict.UNVERIFIABLE, Rule.NONE, _LATE))
        self._end(share.node.name, place)

    # Looking

    async def _look(self, share: Share, place: int, acked_at: float) -> None:
        name = share.node.name
        try:
            if self._is_stopped:
                return
            if time.monotonic() > self._until:
                why = "no time was left for a visit"
                self._count(share, place, Judgement(Verdict.UNVERIFIABLE, Rule.NONE, why))
                return
            judged, digests = await self._visit(name, place, self._began_at, acked_at)
            if judged.verdict is Verdict.STALE and not self._is_stopped:
                judged, digests = await self._again(share, place, judged)
            if not self._is_stopped:
                self._count(share, place, judged, digests)
        except asyncio.CancelledError:  # the engine ends: who goes on with the task verifies it
            self._is_stopped = True
            raise
        finally:
            self._end(name, place)

    async def _visit(self, name: str, place: int, since: float, acked_at: float) -> _Visited:
        """Return the worst of what visitors with each encoding get, and the digest of each."""
        url = self._urls[place]
        looks = self._lookout.looks
        charge = self._lookout.lane(name).charge
        looked: list[Look] = await asyncio.gather(
            *(
                looks.look(Ask(name, url, encoding, since, acked_at, charge))
                for encoding in looks.encodings(url)
            )
        )
        worst = max((look.judgement for look in looked), key=lambda judged: _SEVERITY[judged.verdict])
        return worst, [look.digest for look in looked]

    async def _again(self, share: Share, place: int, first: Judgement) -> _Visited:
        """Purge what is stale once more, when its parents have been looked at, and look once more."""
        name = share.node.name
        await self._parents_over(name, place)
        if self._is_stopped:
            return first, ()
        [last] = share.parents
        operation = self._operations[name]
        targets = self._task.targets if self._is_wide else [self._urls[place]]
        is_acked = await purge_again(last.node, HARD.get(operation, operation), targets, self._task.id)
        acked_at = time.monotonic()
        self._lookout.lane(name).charge(len(self._lookout.looks.encodings(self._urls[place])))
        second, digests = await self._visit(name, place, acked_at, acked_at)
        if second.verdict is Verdict.STALE and not is_acked:
            second = second._replace(reason=f"{second.reason}; it did not ack a second purge")
        return second, digests

    async def _parents_over(self, name: str, place: int) -> None:
        waits: list[asyncio.Future[None]] = []
        for parent in self._parents[name]:
            key = (parent, place)
            ends = self._over.setdefault(key, [])
            if ends is not None:
                waits.append(asyncio.get_running_loop().create_future())
                ends.append(waits[-1])
        if waits:
            await asyncio.wait(waits, timeout=_PARENTS_S)

    # What it came to

    def _count(self, share: Share, place: int, judged: Judgement, digests: Sequence[str] = ()) -> None:
        document, node = self._verify.document, self._verify.of(share.node.name)
        stats, layer = self._lookout.stats, share.node.layer
        now = time.time()
        document.checked += 1
        if judged.rule is not Rule.NONE:
            document.rules = {**document.rules, judged.rule.value: document.rules.get(judged.rule, 0) + 1}
        if judged.verdict is Verdict.VERIFIED:
            document.verified += 1
            stats.subtasks_verified += 1
            node.verified_at = now
            node.saw(self._urls[place], digests)
            self._verified_at[layer] = now
            self._lookout.fresh_again(share.node.name)
        elif judged.verdict is Verdict.STALE:
            document.stale += 1
            stats.subtasks_stale += 1
            node.stale += 1
            self._not_fresh.add(layer)
            documents.add_error(self._task, share.node.name, self._urls[place], judged.reason)
            self._lookout.stale(share.node.name, layer, self._urls[place], judged.reason, self._task.id)
        else:
            document.unverifiable += 1
            stats.subtasks_unverifiable += 1
            self._verify.because(f"{share.node.name}: {judged.reason}")
        self._task.updated_at = now

    def _end(self, name: str, place: int) -> None:
        key = (name, place)
        for waits in self._over.get(key) or ():
            if not waits.done():
                waits.set_result(None)
        self._over[key] = None
        self._left -= 1
        if not self._left and not self._is_stopped:
            self._finish()

    def _finish(self) -> None:
        began_at = self._task.start_at or self._task.created_at
        for layer in self._verified_at.keys() | self._not_fresh:
            fresh_s = inf if layer in self._not_fresh else max(0.0, self._verified_at[layer] - began_at)
            self._lookout.fresh(layer, fresh_s)
        self._on_over(self._task)

    def stop(self) -> None:
        """Look at nothing more: the task was cancelled, or is another engine's by now."""
        self._is_stopped = True

    # Owner of shares of which nothing is sent

    def catch_up(self, share: Share, indexes: list[int]) -> None:
        """Nothing waits behind these shares."""

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Nothing of them is sent."""

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Nothing of them is sent."""

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing of them is sent."""

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing of them is sent."""

    def acked_beside(self, _share: Share, _index: int, _began_at: float, _now: float) -> float:
        """Nothing of them is sent."""
        return -inf


def verify(lookout: Lookout, task: Task, on_over: Callable[[Task], None]) -> Verification:
    """Return the verification of a task that is about to be expanded; *on_over* is told of its end."""
    assert task.verify is not None
    left_s = task.due_at - time.time()
    return Verification(task, task.verify, lookout, left_s=left_s, on_over=on_over)
