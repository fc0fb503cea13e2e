"""A purge whose rule was written into a file: what looks at the plug-in's state file tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.nodes.drivers.rules import MARKER

if TYPE_CHECKING:
    from engine.nodes.drivers.rules import InForce, Rule
    from engine.nodes.queue import Item
    from engine.nodes.rule_file import Written

_LOOKS: Final = 2  #: in a row: the plug-in writes its state a moment before it goes by it


@dataclass(slots=True)
class PendingRule:
    """A purge whose rule was written."""

    item: Item
    pattern: str
    written: Written
    since: float  #: `time.monotonic`, as the next one
    unseen_at: float  #: when the last look began that did not show what became of it, or the writing ended
    looks: int = 0  #: in a row that told the same of it
    is_passed_over: bool = False  #: what they told: it is not in force, though the file was read

    def told(self, in_force: dict[str, InForce], now: float) -> None:
        """Count a look that began at *now*."""
        is_read, is_marked = (self._has(pattern, in_force) for pattern in (self.pattern, MARKER))
        is_passed_over = is_marked and not is_read
        is_same = is_passed_over == self.is_passed_over
        self.is_passed_over = is_passed_over
        self.looks = (self.looks + 1 if is_same else 1) if is_read or is_passed_over else 0
        if not self.looks:
            self.unseen_at = now

    @property
    def is_in_force(self) -> bool:
        """Whether the looks showed the rule."""
        return self.looks >= _LOOKS and not self.is_passed_over

    @property
    def is_left_out(self) -> bool:
        """Whether the looks showed that the plug-in read a later file, or this one without the rule."""
        return self.looks >= _LOOKS and self.is_passed_over

    def stands(self, rules: dict[str, Rule], in_force: dict[str, InForce]) -> bool | None:
        """Tell whether the file that the plug-in read has the rule; None: another wrote it, maybe later.

        Args:
            rules: that are in the file.
            in_force: what the plug-in says.
        """
        rule, expiry = rules.get(self.pattern), self.written.expiries[self.pattern]
        if rule is None or rule.expiry < expiry:
            return False
        marker, read = rules.get(MARKER), in_force.get(MARKER)
        if rule.expiry == expiry or (marker and read and marker.expiry <= read.expiry):
            return True
        return None

    def _has(self, pattern: str, in_force: dict[str, InForce]) -> bool:
        found = in_force.get(pattern)
        written = self.written
        return found is not None and found.expiry >= written.expiries[pattern] and found.epoch >= written.at
