"""Whether a node is proven: asks it, and acts when its answers do not show that the node itself gave them.

A node that takes subtasks is asked at the start and every ``evidence_interval_s``; one that does not, or that
is unproven, until it answers as it should (`Probe`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.nodes.health import NodeState
from engine.nodes.judge import Judge
from engine.nodes.probe import Checks, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.health import Health
    from engine.nodes.postponed import Postponed
    from engine.nodes.probe import Problem
    from engine.nodes.readings import Unacked
    from engine.nodes.sink import Events, Outcomes
    from engine.tasks.task import Share


class Proving:
    """The judge and the probe of one node.

    Args:
        config: the node's table.
        address: where it listens.
        health: its state.
        postponed: its requests that wait.
        events: told when the node becomes unproven.
        outcomes: told which subtasks are kept.
        timeout_s: of one probe.
        interval_s: between two questions to a node that takes subtasks; so long counts a proof, too.
    """

    def __init__(
        self,
        config: NodeConfig,
        address: Address,
        health: Health,
        postponed: Postponed,
        *,
        events: Events,
        outcomes: Outcomes,
        timeout_s: float,
        interval_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._config = config
        self._health = health
        self._postponed = postponed
        self._events = events
        self._outcomes = outcomes
        self.judge = Judge(config, loop.time, interval_s)
        self.on_down: Callable[[str], None] = _ignore  #: told why a node that was unproven is down, or sick
        self.on_back: Callable[[], None] = _nothing  #: told that the node answers as one whose purges count
        probe = Probe(
            config,
            address,
            self.judge,
            timeout_s=timeout_s,
            on_problem=self._still_away,
            on_answer=self._answers_again,
        )
        self._probe = probe
        self._checks = Checks(probe, interval_s, self._checked)
        self._is_closed = False

    def start(self) -> None:
        """Ask whose the node's answers are, now and again and again."""
        if self.judge.sign is not None:
            self._checks.start()

    def ask(self, *, attempt: int = 0) -> None:
        """Ask until the node answers; at once, or as after *attempt* attempts."""
        self._probe.start(attempt=attempt)

    def close(self) -> None:
        """Stop asking."""
        self._is_closed = True
        self._checks.close()
        self._probe.close()

    def keep(self, rest: list[Unacked]) -> None:
        """Keep what nothing shows to have been done: it is sent again when the node is proven.

        While rows are delivered the probe has shown that the node is; its purges of these hosts are something
        else, and wait, with pauses that grow.
        """
        (share, index, _), _, answer = rest[0]
        whose = self.judge.whose(share.operation, share.task.targets[index], answer)
        reason = self.judge.reason(whose, answer.status)
        if self._health.is_returning:
            self._postponed.hold(
                (share.operation, share.task.targets[index]) for (share, index, _), *_ in rest
            )
        self.lost(reason)
        kept: dict[Share, list[int]] = {}
        for share, index, others in self._outcomes.without_cancelled([item for item, *_ in rest]):
            for owner, place in ((share, index), *(others or ())):
                kept.setdefault(owner, []).append(place)
        for share, indexes in kept.items():
            self._outcomes.park(share, indexes, f"{reason}; it is sent again when the node is proven")

    def lost(self, reason: str) -> None:
        """An answer came that does not count: none does from here on without evidence of its own."""
        if self._health.unproven(reason) and not self._is_closed:
            self.judge.doubt()
            self._events.node_unproven(self._config, reason)
            self._probe.start()

    def _checked(self, problem: Problem) -> None:
        """A node that takes subtasks was asked. Where it does not answer, or refuses, subtasks tell more."""
        if problem.state is NodeState.UNPROVEN:
            self.lost(problem.reason)

    def _answers_again(self) -> None:
        self.on_back()

    def _still_away(self, problem: Problem) -> None:
        """A probe did not bring the node back."""
        before = self._health.state
        self._health.still_away(problem.reason, problem.state)
        after = self._health.state
        if after is before or self._is_closed:
            return
        if after is NodeState.UNPROVEN:
            self.judge.doubt()
            self._events.node_unproven(self._config, problem.reason)
        elif before is NodeState.UNPROVEN:
            self.on_down(problem.reason)


def _ignore(_: str) -> None:
    """Tell nobody."""


def _nothing() -> None:
    """Tell nobody."""
