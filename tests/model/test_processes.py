"""The same with real processes and time; ``python -m tests.model --processes`` goes on for longer."""

from __future__ import annotations

import pytest

from tests.model import plans
from tests.model.caches import Act, Cache
from tests.model.plans import Engine, Fault, Heal, Plan, Submit, Visit
from tests.model.rules import Violation
from tests.model.search import ProcessRuns

pytestmark = pytest.mark.slow

_URL = Submit("purge", "url", (0, 1), prefetch=True)
_PLAN = Plan(
    workers=2,
    drivers=("varnish", "nginx", "squid"),
    steps=(
        *[(0.0, Visit(node, url)) for node in plans.NODES for url in range(3)],
        (0.1, Fault("edge-1", "down")),
        (0.0, _URL),
        (0.3, Engine("worker-killed", slot=1)),
        (0.0, Submit("purge", "prefix", (0, 2))),
        (0.3, Visit("edge-2", 0)),
        (0.0, Engine("reload", config="no-edge-2")),
        (0.3, Submit("purge", "host", (2,), soft=True)),
        (0.5, Engine("crash", down_s=0.1)),
        (0.3, Heal("edge-1")),
        (0.0, _URL),
    ),
)


@pytest.mark.parametrize("on_redis", [False, True])
def test_nothing_old_is_served_and_nothing_is_given_up_by_real_processes(on_redis: bool) -> None:
    with ProcessRuns(on_redis=on_redis) as runs:
        runs.run(_PLAN)
    assert runs.figures.seen["tasks done"] >= 3  # an engine that is just killed takes none


def test_a_cache_that_keeps_what_it_says_it_purged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def purge(cache: Cache, act: Act) -> int:
        cache.acts.append(act)
        return 1

    monkeypatch.setattr(Cache, "purge", purge)
    steps = tuple((0.0, Visit("edge-1", url)) for url in range(3))
    with ProcessRuns() as runs, pytest.raises(Violation, match=r"-1 has version 1 of .*, not 2"):
        runs.run(Plan(steps=(*steps, (0.1, Submit("purge", "url", (0,))))))
