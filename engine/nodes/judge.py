"""Whether the answers of one node count: what shows that the node itself gave them.

Most answers are known in passing (`wire`): they bear the node's mark, or repeat one that was found to be its
own. Every other one is judged by its driver's rule. Where that does not tell, a proof counts that was made in
another way, for so long as it is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.nodes.answer import MARK_NAME
from engine.nodes.drivers.common import BAD_REQUEST, TOO_LONG
from engine.nodes.drivers.shape import MARK, NONCE
from engine.nodes.drivers.sign import sign_of
from engine.nodes.evidence import Whose
from engine.tasks.words import host_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.nodes.answer import Answer
    from engine.tasks.words import Operation

_HOSTS_MAX: Final = 10_000
_TEXTS_MAX: Final = 64
_OWN: Final = Whose.OWN  # looked up once: see `health`
_FORWARDED: Final = Whose.FORWARDED


class Judge:
    """Judges the answers of one node.

    Args:
        config: the node's table.
        now: a clock that never goes back, in seconds: the loop's.
        valid_s: how long a proof that was made in another way counts.
    """

    def __init__(self, config: NodeConfig, now: Callable[[], float], valid_s: float) -> None:
        self._config = config
        self._now = now
        self._valid_s = valid_s
        self._depends_on_target = drivers.depends_on_target(config)
        self._own: dict[bytes, Operation] = {}  # answers found to be the node's own, to what; see `knows`
        self._proven_until: dict[str, float] = {}  # by host
        self.sign = sign_of(config) if config.evidence == "strict" else None
        """By which answers are known in passing; None: every answer counts."""
        self.rests_on = "none" if self.sign is not None else "any"
        """What shows that answers are the node's own: ``mark shape prober signature any none``."""
        self.needs_pages = False
        """Probes do not tell whose the node's answers are; purges of pages may."""
        self.is_overruled = False
        """The probe found more than the bytes of answers tell: none of them counts."""

    def __repr__(self) -> str:
        return f"<Judge of {self._config.name} [{self.rests_on}]>"

    def knows(self, operation: Operation, answer: Answer) -> bool:
        """Tell whether an answer is the node's own without a further look: it is as one that was.

        Each connection repeats an answer of its own, until the second of its ``Date`` is over.
        """
        return not answer.text or self._own.get(answer.text) is operation

    def owns_run(self, operation: Operation, target: str, answer: Answer) -> bool:
        """Tell whether one answer to several requests is the node's own; *target* is that of the first."""
        if self.knows(operation, answer):
            return True
        return not self._depends_on_target and self.whose(operation, target, answer) is _OWN

    def whose(self, operation: Operation, target: str, answer: Answer) -> Whose:
        """Return who gave an answer."""
        if self.knows(operation, answer):
            return _OWN
        whose = drivers.whose(self._config, operation, target, answer.text)
        if whose is _OWN:
            self._rest_on("mark" if MARK_NAME in answer.text.lower() else "shape")
            if self._depends_on_target:
                self._note(target)  # so it purges this host itself, also where it had nothing to drop
            else:
                if len(self._own) >= _TEXTS_MAX:
                    self._own.clear()
                self._own[answer.text] = operation
        return whose

    def is_proven(self, target: str) -> bool:
        """Tell whether it was shown in another way that the node purges the host of *target* itself."""
        return self._proven_until.get(host_of(target), 0.0) > self._now()

    @property
    def is_any_proven(self) -> bool:
        """Whether such a proof is valid for a host."""
        now = self._now()
        return any(until > now for until in self._proven_until.values())

    def prove(self, target: str) -> None:
        """Take a proof for the host of *target*."""
        self._note(target)
        self._rest_on("prober")

    def _note(self, target: str) -> None:
        if len(self._proven_until) >= _HOSTS_MAX:
            self._proven_until.clear()
        self._proven_until[host_of(target)] = self._now() + self._valid_s

    def is_signed(self) -> None:
        """The node, which is an engine, signed its answer to a nonce."""
        self._rest_on("signature")

    def has_mark(self) -> None:
        """The node bears its mark, and the probe's nonce came back with it."""
        self._rest_on("mark")

    def doubt(self, *, is_untold: bool) -> None:
        """An answer did not count; no proof does either, unless nothing shows whose it was (*is_untold*)."""
        if not is_untold:
            self._own.clear()
            self._proven_until.clear()
        self._rest_on("none")

    def _rest_on(self, what: str) -> None:
        if self.sign is not None:
            self.rests_on = what

    def reason_without_nonce(self) -> str:
        """Say why a node with its mark is not proven: the probe's nonce did not come back."""
        name, driver = self._config.name, self._config.driver
        return (
            f"unproven: {name} does not repeat {NONCE} beside its mark, so its answer may be a stored one "
            f"(purgeline render {driver} prints the lines)"
        )

    def reason(self, whose: Whose, status: int) -> str:
        """Say why an answer does not count, and what an operator can do about it."""
        name, driver, method = self._config.name, self._config.driver, self._config.purge_method
        if whose is _FORWARDED:
            said = f"a server behind {name} answered {status}, because the cache passed {method} on"
            remedy = "let the cache answer it itself"
            if status == BAD_REQUEST:
                said += f"; or {name} cannot take the request: {TOO_LONG}"
        else:
            said = f"nothing shows that {name} itself answered {status}"
            remedy = f'let it send "{MARK}: {driver} {name}"'
        return f"unproven: {said}; {remedy} (purgeline render {driver} prints the lines)"
