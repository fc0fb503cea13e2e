"""What an answer of a cache means, and how that is said to an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.nodes.evidence import Whose
from engine.nodes.said import said_in
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.config.tables import NodeConfig
    from engine.nodes.answer import Answer
    from engine.nodes.judge import Judge
    from engine.nodes.queue import Item
    from engine.observe.counters import Stats
    from engine.observe.logs import AnswerRow

    Unacked = tuple[Item, Outcome, Answer]
    """A request, the reading of its answer, and the answer."""

_PREFETCH: Final = Operation.PREFETCH  # see `health`
_ABSENT: Final = Outcome.ABSENT
_NOT_FOUND: Final = 404
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500


class Readings:
    """Reads the answers of one node; its driver is asked once for each kind of answer.

    Args:
        config: the node's table.
        judge: tells whose an answer is.
        stats: counts what prefetches brought.
        log_subtasks: given the answers of each read (``log_subtasks``); see `logs.Logs.subtasks`.
    """

    def __init__(
        self,
        config: NodeConfig,
        judge: Judge,
        stats: Stats,
        log_subtasks: Callable[[str, list[AnswerRow], float], None] | None = None,
    ) -> None:
        self._config = config
        self._judge = judge
        self._stats = stats
        self._log_subtasks = log_subtasks
        self._outcomes: dict[tuple[Operation, int, bool, bool], Outcome] = {}

    def read(self, operation: Operation, answer: Answer) -> Outcome:
        """Return what an answer to *operation* means."""
        if operation is _PREFETCH and answer.status in self._config.prefetch_statuses:
            return Outcome.ACKED if drivers.brings(self._config, answer.text) else Outcome.FAILED
        key = (operation, answer.status, answer.body_bytes > 0, answer.had_nothing)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = drivers.read(self._config, operation, answer.status, answer.body_bytes)
            if answer.had_nothing and outcome is Outcome.ACKED and operation is not _PREFETCH:
                outcome = _ABSENT
            self._outcomes[key] = outcome
        return outcome

    def sort(
        self, items: list[Item], answers: list[Answer], duration_s: float
    ) -> tuple[list[Item], list[Item], list[Unacked]]:
        """Return what the answers of one read acked, what was absent, and what neither.

        The oldest took *duration_s*.
        """
        if self._log_subtasks is None and not self._judge.is_overruled:
            outcome = self.read_run(items, answers)
            if outcome is not None and outcome <= _ABSENT:
                return ([], items, []) if outcome is _ABSENT else (items, [], [])
        return self._sort_each(items, answers, duration_s)

    def _sort_each(
        self, items: list[Item], answers: list[Answer], duration_s: float
    ) -> tuple[list[Item], list[Item], list[Unacked]]:
        acked: list[Item] = []
        absent: list[Item] = []
        rest: list[Unacked] = []
        rows: list[AnswerRow] = []
        last_key: tuple[Operation, Answer] | None = None
        outcome = Outcome.ACKED
        is_overruled = self._judge.is_overruled
        for item, answer in zip(items, answers, strict=True):
            share, index, _ = item
            operation = share.operation
            if last_key is None or operation is not last_key[0] or answer is not last_key[1]:
                outcome = self.read(operation, answer)
                last_key = (operation, answer)
            if (answer.text or is_overruled) and not self._counts(item, answer, outcome):
                outcome, last_key = Outcome.UNPROVEN, None
            if self._log_subtasks is not None:
                task = share.task
                rows.append((task.id, task.targets[index], operation, answer.status, outcome))
            if operation is _PREFETCH:
                self._stats.prefetched_bytes += answer.body_bytes
            if outcome <= _ABSENT:
                (absent if outcome is _ABSENT else acked).append(item)
            else:
                rest.append((item, outcome, answer))
        if self._log_subtasks is not None:
            self._log_subtasks(self._config.name, rows, duration_s * 1000)
        return acked, absent, rest

    def read_run(self, items: list[Item], answers: list[Answer]) -> Outcome | None:
        """Return what all of these purges came to, when one answer was given to each; None: look at each.

        Nearly every read is such a run, and needs no look at its single answers.
        """
        answer, operation = answers[0], items[0][0].operation
        if operation is _PREFETCH:
            return None
        for item in items:
            if item[0].operation is not operation:
                return None
        if answers.count(answer) != len(answers):
            return None
        if answer.text:
            share, index, _ = items[0]
            if not self._judge.owns_run(operation, share.task.targets[index], answer):
                return None
        return self.read(operation, answer)

    def _counts(self, item: Item, answer: Answer, outcome: Outcome) -> bool:
        """Tell whether an answer that does not bear the node's mark may have the *outcome* that it seems to.

        What asks for another attempt counts in any case, and what the node may have refused itself.
        """
        share, index, _ = item
        operation = share.operation
        if outcome is Outcome.RETRY or operation is _PREFETCH:
            return True
        if self._judge.is_overruled:
            return outcome > _ABSENT
        target = share.task.targets[index]
        whose = self._judge.whose(operation, target, answer)
        if whose is Whose.FORWARDED:
            return False
        return whose is Whose.OWN or outcome > _ABSENT or self._judge.is_proven(target)

    def _why_not_kept(self, answer: Answer) -> str:
        """Say why a status that may count did not."""
        name = self._config.name
        if answer.status not in self._config.prefetch_statuses:
            return ""
        return f", which nothing shows to be the origin's and to be kept by {name} (prefetch_statuses)"

    def server_errors(self, rest: list[Unacked]) -> Iterator[tuple[Operation, str, str]]:
        """Yield operation, target and reason of purges that were answered 5xx (prefetches: by the origin)."""
        for (share, index, _), outcome, answer in rest:
            operation = share.operation
            if outcome is Outcome.RETRY and answer.status >= _SERVER_ERROR and operation is not _PREFETCH:
                yield operation, share.task.targets[index], self.reason_of(operation, outcome, answer)

    def reason_of(self, operation: Operation, outcome: Outcome, answer: Answer) -> str:
        """Say what the cache answered, and what an operator can do about it."""
        config = self._config
        said = f"answered {answer.status}"
        if outcome is Outcome.RETRY:
            return said
        if outcome is Outcome.REFUSED:
            hint = drivers.refusal(config, operation, answer.status, answer.body_bytes)
            if hint:
                return f"refused: {said}: {hint} ({config.name})"
            if answer.status == _NOT_FOUND:
                return f"refused: {said} with a page: no rule for this host on {config.name}"
            method = drivers.method(config, operation)
            if answer.status < _CLIENT_ERROR:
                return f"refused: {said}, a redirect: let {config.name} answer {method} itself"
            return f"refused: {said}: let {method} in from this engine (ACL, method) on {config.name}"
        if operation is _PREFETCH:
            said = f"{said} to a prefetch{self._why_not_kept(answer)}"
        words = said_in(answer.said)
        return f"{said}: {words}" if words else said
