"""What an answer of a cache means, and how that is said to an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig
    from engine.nodes.queue import Item
    from engine.nodes.wire import Answer

_PREFETCH: Final = Operation.PREFETCH  # see `health`
_NOT_FOUND: Final = 404


class Readings:
    """Reads the answers of one node; its driver is asked once for each kind of answer."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._outcomes: dict[tuple[Operation, int, bool], Outcome] = {}

    def read(self, operation: Operation, answer: Answer) -> Outcome:
        """Return what an answer to *operation* means."""
        key = (operation, answer.status, answer.body_bytes > 0)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = drivers.read(self._config, operation, answer.status, answer.body_bytes)
            self._outcomes[key] = outcome
        return outcome

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
        return self.read(operation, answer) if answers.count(answer) == len(answers) else None

    def reason_of(self, operation: Operation, outcome: Outcome, answer: Answer) -> str:
        """Say what the cache answered, and what an operator can do about it."""
        config = self._config
        said = f"answered {answer.status}"
        if outcome is Outcome.RETRY:
            return said
        if outcome is Outcome.REFUSED:
            if answer.status == _NOT_FOUND:
                return f"refused: {said} with a page: no rule for this host on {config.name}"
            return (
                f"refused: {said}: let {config.purge_method} in from this engine (ACL, method) "
                f"on {config.name}"
            )
        return f"{said} to a prefetch" if operation is _PREFETCH else said
