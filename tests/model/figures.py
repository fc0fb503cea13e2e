"""What runs consisted of: how many, and what went wrong in them on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Figures:
    """Counts of runs so far."""

    runs: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)  #: by kind, as far as they were carried out
    seen: Counter[str] = field(default_factory=Counter)  #: what came of it: tasks by state, checks
    again: Counter[str] = field(default_factory=Counter)  #: purges that came twice, by the reason
    violations: int = 0

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted((+self.faults).items()))
        seen = ", ".join(f"{count} {what}" for what, count in sorted((+self.seen).items()))
        again = ", ".join(f"{count} {why}" for why, count in sorted((+self.again).items()))
        return (
            f"{self.runs} runs, {self.steps} steps, {self.violations} violations\n"
            f"  {self.faults.total()} faults: {faults or 'none'}\n"
            f"  {seen or 'no tasks'}" + (f"\n  {self.again.total()} sent twice: {again}" if again else "")
        )
