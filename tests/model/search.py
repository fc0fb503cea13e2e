"""Runs of many plans: drawn by hypothesis, the same for the same seed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.model.plans import Plan, plans
from tests.model.rules import Violation
from tests.model.world import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY: Final = Path("/dev/shm")
"""A folder whose files are in memory, where there is one: a store syncs each commit."""


def run(plan: Plan) -> None:
    """Carry a plan out in a folder of its own.

    Raises:
        Violation: a rule was broken.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        carry_out(plan, Path(folder))


class _FoundError(Exception):
    """Ends a search."""


def search(
    faults: frozenset[str], *, number: int, runs: int, on_run: Callable[[Plan], None] = lambda _: None
) -> tuple[Plan, Violation] | None:
    """Run plans until one shows a violation, which is returned as it is; None: none did.

    Args:
        faults: kinds that the plans draw from.
        number: the seed.
        runs: at the most.
        on_run: told of each plan that was run.
    """
    found: list[tuple[Plan, Violation]] = []

    def one(plan: Plan) -> None:
        try:
            run(plan)
        except Violation as exc:
            found.append((plan, exc))
            raise _FoundError from None
        on_run(plan)

    test = settings(
        max_examples=runs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(plans(faults))(one))
    try:
        seed(number)(test)()
    except _FoundError:
        return found[0]
    return None
