"""Whether a node is proven: asks it, and acts when its answers do not show that the node itself gave them.

A node that takes subtasks is asked at the start and every ``evidence_interval_s``; one that does not, or that
is unproven, until it answers as it should (`Probe`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.nodes.evidence import Whose
from engine.nodes.health import NodeState
from engine.nodes.judge import Judge
from engine.nodes.lookups import Lookups
from engine.nodes.probe import Checks, Probe, unseen
from engine.nodes.prober import Prober
from engine.tasks.words import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.nodes.answer import Answer
    from engine.nodes.findings import Place
    from engine.nodes.health import Health
    from engine.nodes.postponed import Postponed
    from engine.nodes.probe import OnExchange, Problem
    from engine.nodes.queue import Item
    from engine.nodes.readings import Unacked
    from engine.nodes.sink import Events, Outcomes

_AGAIN_S: Final = 60.0  #: between two looks at what waits for a node that no page has proven


class Proving:
    """The judge, the probe and the prober of one node.

    Args:
        place: the node, and where it listens.
        health: its state.
        postponed: its requests that wait.
        above: returns its parents and their parents, those next to the origin first.
        events: told when the node becomes unproven.
        outcomes: told which subtasks are kept.
        timeout_s: of one probe.
        interval_s: between two questions to a node that takes subtasks; so long counts a proof, too.
    """

    def __init__(
        self,
        place: Place,
        health: Health,
        postponed: Postponed,
        above: Callable[[], list[Place]],
        *,
        events: Events,
        outcomes: Outcomes,
        timeout_s: float,
        interval_s: float,
    ) -> None:
        self._config = place.config
        self._health = health
        self._postponed = postponed
        self._events = events
        self._outcomes = outcomes
        self.judge = Judge(place.config, asyncio.get_running_loop().time, interval_s)
        self.on_down: Callable[[str], None] = _ignore  #: told why a node that was unproven is down, or sick
        self.on_back: Callable[[], None] = _nothing  #: told that the node answers as one whose purges count
        self._probe = Probe(
            place.config,
            place.address,
            self.judge,
            timeout_s=timeout_s,
            on_problem=self._still_away,
            on_answer=self._answers_again,
        )
        self._checks = Checks(self._probe, interval_s, self._checked)
        self.prober = Prober(
            place,
            above,
            self.judge,
            timeout_s=timeout_s,
            on_proven=self._proven,
            on_failed=self._not_proven,
        )
        self.lookups = Lookups(place.address, self._several)
        self._now = asyncio.get_running_loop().time
        self._again_at = 0.0  # when what waits is looked at again
        self._begun = 0  # hosts that the prober had begun with by then
        self._is_told_away = True  # operators know that the node is down, if it is
        self._is_untold = False  # why it is unproven: its answers do not tell
        self._reason = ""
        self._is_closed = False

    def watch(self, on_exchange: OnExchange | None) -> None:
        """Have each probe told; None: no more."""
        self._probe.on_exchange = on_exchange or unseen

    def ask_by(self, question: Callable[[], Awaitable[Problem | None]]) -> None:
        """Ask in another way than by a purge: the node is no cache."""
        self._probe.question = question

    def unproven(self, items: list[Item], reason: str) -> None:
        """Keep what an answer told of that is somebody else's: it is sent again when the node is proven."""
        self._lost(reason, is_untold=False)
        self._outcomes.hold(items, f"{reason}; it is sent again when the node is proven")

    def start(self) -> None:
        """Ask whose the node's answers are, and which cache its name stands for, now and again and again."""
        if not drivers.is_engine(self._config):  # an engine may have several addresses: its task is one
            self.lookups.start()
        if self.judge.sign is not None:
            self._checks.start()

    def ask(self, *, attempt: int = 0) -> None:
        """Ask until the node answers; at once, or as after *attempt* attempts."""
        self._probe.start(attempt=attempt)

    def rest(self) -> None:
        """Ask nothing: the node is paused."""
        self._probe.close()
        self.prober.close()

    def begin_anew(self) -> None:
        """The node was resumed: ask until it answers, and tell when it does not."""
        self._is_told_away = False
        self._probe.start()

    def close(self) -> None:
        """Stop asking."""
        self._is_closed = True
        self.lookups.close()
        self._checks.close()
        self.prober.close()
        self._probe.close()

    def _several(self, reason: str) -> None:
        """The node's name stands for several caches: none is purged until it stands for one."""
        if not self._is_closed and self._health.go_down(reason):
            self.on_down(reason)

    def offer(self, operation: int, target: str) -> None:
        """Take a subtask that waits: where bytes do not tell, the node may be proven with it."""
        if self._health.state is NodeState.UNPROVEN and self._is_untold and not self._is_closed:
            self.prober.offer(operation, target)

    def keep(self, rest: list[Unacked]) -> list[Unacked]:
        """Keep what nothing shows to have been done: it is sent again when the node is proven.

        While rows are delivered the probe has shown that the node is; its purges of these hosts are something
        else, and wait, with pauses that grow.

        Returns:
            Those of *rest* that were answered by the node itself.
        """
        unproven = [(item, answer) for item, meaning, answer in rest if meaning is Outcome.UNPROVEN]
        if not unproven:
            return rest
        told = [self._whose(item, answer) for item, answer in unproven]
        whose = max(told)
        reason = self.judge.reason(whose, unproven[told.index(whose)][1].status)
        if self.judge.is_overruled:
            reason = self._reason or reason
        if self._health.is_returning:
            requests = ((share.operation, share.task.targets[at]) for (share, at, _), _ in unproven)
            self._postponed.holds.hold(requests, reason)
        self._lost(reason, is_untold=whose is Whose.UNTOLD)
        items = [item for item, _ in unproven]
        for share, index, _ in items:
            self.offer(share.operation, share.task.targets[index])
        self._outcomes.hold(items, f"{reason}; it is sent again when the node is proven")
        return [each for each in rest if each[1] is not Outcome.UNPROVEN]

    def _whose(self, item: Item, answer: Answer) -> Whose:
        if self.judge.is_overruled:
            return Whose.FORWARDED
        share, index, _ = item
        return self.judge.whose(share.operation, share.task.targets[index], answer)

    def _lost(self, reason: str, *, is_untold: bool) -> None:
        """An answer came that does not count; *is_untold*: nothing shows that it is somebody else's."""
        is_new = self._health.unproven(reason)
        if self._health.state is NodeState.UNPROVEN:
            self._now_unproven(reason, is_untold=is_untold, is_new=is_new)
        if is_new:
            self._probe.start()

    def _now_unproven(self, reason: str, *, is_untold: bool, is_new: bool) -> None:
        self._is_untold, self._reason = is_untold, reason
        self.judge.doubt(is_untold=is_untold)
        if is_new and not self._is_closed:
            self._events.node_unproven(self._config, reason)

    def _checked(self, problem: Problem) -> None:
        """A node that takes subtasks was asked. Where it does not answer, or refuses, subtasks tell more.

        So they do when it does not tell whose its answers are, and was proven otherwise.
        """
        is_known = problem.is_untold and self.judge.rests_on != "none"
        if problem.state is NodeState.UNPROVEN and not is_known:
            self._lost(problem.reason, is_untold=problem.is_untold)

    def _proven(self) -> None:
        """A host was proven in another way."""
        if self._health.state is NodeState.UNPROVEN and not self._is_closed:
            self._probe.close()
            self.on_back()

    def _not_proven(self, why: str) -> None:
        if self._health.state is NodeState.UNPROVEN:
            self._health.note(f"{self._reason}; {why}")

    def _answers_again(self) -> None:
        self.on_back()

    def _still_away(self, problem: Problem) -> None:
        """A probe did not bring the node back."""
        before = self._health.state
        reason = problem.reason
        is_same = before is NodeState.UNPROVEN and problem.is_untold == self._is_untold
        if is_same and problem.is_untold:
            self._look_again()
            return  # what the prober found says more
        self._health.still_away(reason, problem.state)
        after = self._health.state
        if self._is_closed:
            return
        if after is NodeState.UNPROVEN:
            self._now_unproven(reason, is_untold=problem.is_untold, is_new=not is_same)
        elif before is NodeState.UNPROVEN or not self._is_told_away:
            self._is_told_away = True
            self.on_down(reason)

    def _look_again(self) -> None:
        """Try with other pages that wait; when all were tried, with all of them: their origin may be back."""
        prober, now = self.prober, self._now()
        if prober.is_at_work or now < self._again_at or self._is_closed:
            return
        if prober.begun == self._begun:
            prober.begin_anew()
        self._begun, self._again_at = prober.begun, now + _AGAIN_S
        self._events.still_unproven(self._config)


def _ignore(_: str) -> None:
    """Tell nobody."""


def _nothing() -> None:
    """Tell nobody."""
