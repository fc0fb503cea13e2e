"""The verification of one task: which of its subtasks are looked at, and what that came to.

A share that nothing is sent of stands behind each node's last one: it is told, target by target, what was
acked, as the second purges of a rebound are. Nothing of this is on the way of a task that is not verified.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Final

from engine.proof.again import purge_again
from engine.proof.comparison import Judgement, Rule, Verdict
from engine.proof.looks import Ask, Look
from engine.tasks import documents
from engine.tasks.words import ACKED, DELAYED, HARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.proof.lookout import Lookout
    from engine.tasks.task import Share, Task
    from engine.tasks.verify import Verify
    from engine.tasks.words import Operation

    _Visited = tuple[Judgement, Sequence[str]]  # the SHA-256 of what visitors with each encoding get
    _Purged = tuple[bool, float]  # whether the node acked a second purge, and when that was over

_WINDOW_LEAST_S: Final = 5.0  #: in which visits are made, whatever is left until the task is due
_SAMPLE_SHARE: Final = 0.9  #: of the visits that there is time for; the rest goes by until nodes have acked
_PARENTS_S: Final = 30.0  #: for which an edge's second purge waits for its parents' verification
_LATE: Final = "its purge waits for the node; what is purged late is not visited"
_NO_ROOM: Final = "rate_per_s leaves no time for a visit"
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
        self._room_until = self._began_at + window_s
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
        self._second_purges: dict[str, asyncio.Task[_Purged]] = {}  # of wide tasks, by node
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
        room = int(min(self._lookout.lane(name).room(window_s) for name in names) * _SAMPLE_SHARE) // each
        if max(1, room) < wanted:
            wanted = max(1, room)
            document = self._verify.document
            document.mode = "sample"
            document.note = f"{wanted} of {count} targets: rate_per_s leaves no time for more visits"
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
        if not self._lookout.looks.has(share.node.name):
            self._end(share.node.name, place)  # what the engine that it is found is counted: `Verify.fold`
            return
        visits = len(self._lookout.looks.encodings(self._urls[place]))
        lane, now = self._lookout.lane(share.node.name), time.monotonic()
        if lane.room(max(0.0, self._room_until - now)) < visits:
            self._count(share, place, Judgement(Verdict.UNVERIFIABLE, Rule.NONE, _NO_ROOM))
            self._end(share.node.name, place)
            return
        lane.add(visits, self._until, partial(self._look, share, place, now))

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
            if time.monotonic() >= self._until:
                self._count(share, place, Judgement(Verdict.UNVERIFIABLE, Rule.NONE, _NO_ROOM))
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
        await self._parents_over(name, range(len(self._urls)) if self._is_wide else [place])
        if self._is_stopped:
            return first, ()
        is_acked, acked_at = await self._purge_again(share, place)
        self._lookout.lane(name).charge(len(self._lookout.looks.encodings(self._urls[place])))
        second, digests = await self._visit(name, place, acked_at, acked_at)
        if second.verdict is Verdict.STALE and not is_acked:
            second = second._replace(reason=f"{second.reason}; it did not ack a second purge")
        return second, digests

    async def _purge_again(self, share: Share, place: int) -> _Purged:
        """Purge what one target names; of a wide task all of it, once on each node, for all of its URLs."""
        [last] = share.parents
        operation = HARD.get(self._operations[share.node.name], self._operations[share.node.name])
        if not self._is_wide:
            is_acked = await purge_again(last.node, operation, [self._urls[place]], self._task.id)
            return is_acked, time.monotonic()
        purge = self._second_purges.get(share.node.name)
        if purge is None:
            purge = asyncio.ensure_future(self._purge_all_again(last, operation))
            self._second_purges[share.node.name] = purge
        return await asyncio.shield(purge)

    async def _purge_all_again(self, last: Share, operation: Operation) -> _Purged:
        is_acked = await purge_again(last.node, operation, self._task.targets, self._task.id)
        return is_acked, time.monotonic()

    async def _parents_over(self, name: str, places: Iterable[int]) -> None:
        waits: list[asyncio.Future[None]] = []
        for key in product(self._parents[name], places):
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
        for purge in self._second_purges.values():
            purge.cancel()

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
