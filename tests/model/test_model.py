"""Whatever goes wrong: no node serves what was purged, and no accepted task is given up.

Plans of faults are drawn by hypothesis and carried out in process, on a virtual clock. A failure prints a
small plan that shows it, and what the runs consisted of; `tests.model.search.VirtualRuns` carries it out
again. ``python -m tests.model`` goes on for longer.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.model.broken import BROKEN, Broken
from tests.model.caches import Cache
from tests.model.caches import Origin as OriginServer
from tests.model.inside import Heard, installed
from tests.model.loop import VirtualLoop
from tests.model.plans import FAULTS, Engine, Fault, Origin, Plan, Submit, Visit, plans
from tests.model.search import VirtualRuns, search

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [  # what a killed process leaves behind is nobody's
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Free what is left before another test would hear of it."""
    yield
    gc.collect()


_PROFILE = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def test_compiled_modules_see_the_virtual_clock_too() -> None:
    """They ask the module `time` itself: with another clock than the others they lost tasks that had none."""
    loop = VirtualLoop(random.Random(1))
    try:
        with installed(loop, 1, Heard()):
            assert (time.time(), time.monotonic()) == (loop.wall(), loop.time())
        assert time.monotonic() > loop.time()
    finally:
        loop.close()


@pytest.mark.timeout(600)  # a failure is made smaller
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_nothing_old_is_served_and_nothing_is_given_up(workers: int) -> None:
    with VirtualRuns() as runs:

        @_PROFILE
        @given(plans(FAULTS, workers=workers, scenes_max=4))
        def check(plan: Plan) -> None:
            runs.run(plan)

        check()


async def test_a_cache_that_is_wiped_lets_those_go_who_wait_for_a_fetch() -> None:
    """Also for one that has hardly begun; the next one is fetched."""
    cache = Cache("edge", "varnish", OriginServer(0.0), [], rng=random.Random(1))
    async with asyncio.timeout(5):
        fetch = cache.begin_fetch("http://a.example/", "engine")
        cache.wipe()
        assert await fetch is None
        assert await cache.get("http://a.example/", "engine") is not None


def test_a_worker_that_drains_leaves_the_rows_of_its_successor_alone() -> None:
    """It has no document of them, and their tasks are not in its memory: nobody would count them."""
    plan = Plan(
        seed=1594,
        workers=2,
        drivers=("ats", "squid", "ats"),
        steps=(
            (0.3, Fault("edge-1", "down")),
            (0.003, Submit("purge", "url", (0, 1), prefetch=True, rebound_s=5.0)),
            (0.3, Submit("purge", "url", (2,))),
            (0.3, Fault("edge-1", "sick", is_alone=True)),
            (0.3, Submit("purge", "url", (2,))),
            (0.0, Engine("reload")),
            (0.0, Submit("purge", "url", (2,))),
            (0.0, Origin(50.0, is_failing=True)),
            (0.0, Submit("purge", "prefix", (0, 1))),
            (0.3, Submit("purge", "url", (0,), prefetch=True)),
            (0.3, Visit("edge-2", 1)),
            (0.3, Origin(0.01)),
        ),
    )
    with VirtualRuns() as runs:
        runs.run(plan)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(broken, marks=[pytest.mark.slow] * (broken.is_rare or broken.is_dear), id=str(broken))
        for broken in BROKEN
    ],
)
def test_a_broken_rule_is_found(broken: Broken) -> None:
    with VirtualRuns() as runs, broken.applied():
        assert (
            search(runs, broken.faults, number=broken.seed, count=1000 if broken.is_rare else 100) is not None
        )
