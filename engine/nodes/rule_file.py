"""The file of rules that one ATS reads, and the state file in which its plug-in says which are in force.

Several processes may write the file: the workers of an engine, and the old and the new one of a reload. One
writes at a time (a lock beside the file), keeps what others wrote, and puts the new text in its place by
renaming. Rules that are not the engine's own, and comments, stay as they are.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes.drivers.rules import MARKER, InForce, Rule, pattern_of, read_rules, read_state, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.config.tables import NodeConfig
    from engine.tasks.words import Operation


RULES_MAX: Final = 5000
"""Of one file: the plug-in goes through all of them for each hit of an object that is older than they are."""


class Written(NamedTuple):
    """One writing of the file."""

    expiries: dict[str, int]  #: of its patterns; `MARKER` is one of them
    at: int  #: UNIX seconds; what the plug-in reads before was another file


class RuleFile:
    """The two files of one node.

    Args:
        config: the node's table.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.path = Path(config.rules_file)
        self.state_path = Path(config.rules_state_file)
        self._url = config.rules_url
        self._result = config.rules_result.upper()
        self._keep_s = config.rules_keep_s

    def __repr__(self) -> str:
        return f"<RuleFile {self.path}>"

    def pattern_of(self, operation: Operation, target: str) -> str:
        """Return the pattern of the rule that purges *target* on this node."""
        return pattern_of(operation, target, self._url)

    def write(self, patterns: Iterable[str], now: float) -> Written:
        """Put rules for *patterns* into the file, newer than all that the plug-in may have of them.

        Args:
            patterns: of `rules.pattern_of`.
            now: UNIX time.

        Raises:
            OSError: the file cannot be read or written, or would hold more than `RULES_MAX`.
        """
        with Path(f"{self.path}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text, changed_at = self._read()
            others, rules = read_rules(text)
            rules = {pattern: rule for pattern, rule in rules.items() if rule.expiry > now}
            expiries: dict[str, int] = {}
            for pattern in (MARKER, *patterns):
                before = rules.get(pattern)
                expiry = max(int(now + self._keep_s), before.expiry + 1 if before else 0)
                rules[pattern] = Rule(expiry, self._result)
                expiries[pattern] = expiry
            if len(rules) > RULES_MAX:
                raise OSError(
                    f"more than {RULES_MAX} rules that have not expired (rules_keep_s): "
                    "purge hosts, one rule each"
                )
            self._replace(text_of(others, rules), max(int(now), changed_at + 1))
        return Written(expiries, int(now))

    def _read(self) -> tuple[str, int]:
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
                return file.read(), int(os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return "", 0

    def _replace(self, text: str, changed_at: int) -> None:
        """Put the new text in the place of the old; the plug-in counts whole seconds of *changed_at*."""
        new = Path(f"{self.path}.new")
        with new.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.utime(new, (changed_at, changed_at))
        new.rename(self.path)

    def in_force(self) -> dict[str, InForce]:
        """Return what the plug-in has read, by pattern: nothing, before it wrote its state.

        Raises:
            OSError: the state cannot be read.
        """
        try:
            return read_state(self.state_path.read_text(encoding="utf-8", errors="surrogateescape"))
        except FileNotFoundError:
            return {}
