"""Runs of many plans: drawn by hypothesis, the same for the same seed."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.model import outside, virtual
from tests.model.figures import Figures
from tests.model.inside import Heard
from tests.model.plans import REAL, VIRTUAL, Plan, Scale, plans
from tests.model.rules import Violation
from tests.rigs.memory import MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable


class Runs(ABC):
    """Carries plans out, each in a folder of its own, and counts."""

    scale: Scale
    per_round: int  #: runs with one seed

    def __init__(self) -> None:
        self.figures = Figures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is not None:
            exc.add_note(str(self.figures))

    def run(self, plan: Plan) -> None:
        """Carry a plan out.

        Raises:
            Violation: a rule was broken.
        """
        self.figures.runs += 1
        self.figures.steps += len(plan.steps)
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            try:
                self._carry_out(plan, Path(folder))
            except Violation:
                self.figures.violations += 1
                raise

    @abstractmethod
    def _carry_out(self, plan: Plan, folder: Path) -> None:
        """Carry a plan out in a folder."""


class VirtualRuns(Runs):
    """In this process, on a virtual clock."""

    scale = VIRTUAL
    per_round = 200

    def __init__(self) -> None:
        super().__init__()
        self._heard = Heard()

    def __enter__(self) -> Self:
        self._heard.__enter__()
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        self._heard.__exit__(*exc)
        super().__exit__(*exc)  # type: ignore[arg-type]

    def _carry_out(self, plan: Plan, folder: Path) -> None:
        virtual.carry_out(plan, folder, self.figures, self._heard)


class ProcessRuns(Runs):
    """With real processes, in real time."""

    scale = REAL
    per_round = 5

    def __init__(self, *, on_redis: bool = False) -> None:
        super().__init__()
        self._on_redis = on_redis

    def _carry_out(self, plan: Plan, folder: Path) -> None:
        outside.carry_out(plan, folder, self.figures, on_redis=self._on_redis)


class _EndError(Exception):
    """Ends a search."""


def search(
    runs: Runs, faults: frozenset[str], *, number: int, count: int, is_over: Callable[[], bool] = bool
) -> tuple[Plan, Violation] | None:
    """Run plans until one shows a violation, which is returned as it is; None: none did.

    Args:
        runs: carry them out.
        faults: kinds that the plans draw from.
        number: the seed.
        count: of runs, at the most.
        is_over: no more is begun when that is so.
    """
    found: list[tuple[Plan, Violation]] = []

    def one(plan: Plan) -> None:
        if found or is_over():
            raise _EndError
        try:
            runs.run(plan)
        except Violation as exc:
            found.append((plan, exc))
            raise _EndError from None

    test = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(plans(faults, scale=runs.scale))(one))
    try:
        seed(number)(test)()
    except _EndError:
        return found[0] if found else None
    return None
