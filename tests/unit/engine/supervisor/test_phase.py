"""What a supervisor may begin, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.supervisor.errors import SupervisorError
from engine.supervisor.phase import Phase


def reload(stage: str = "start") -> Any:
    return SimpleNamespace(stage=stage, target="2.0")


@pytest.fixture
def serving() -> Phase:
    phase = Phase()
    phase.serve()
    return phase


def test_states_in_the_order_of_a_life(serving: Phase) -> None:
    assert Phase().state == "starting"
    assert serving.state == "serving"
    serving.begin_reload(reload())
    assert serving.state == "reloading"
    serving.begin_reload(reload("bake"))
    assert serving.state == "baking"
    serving.end_reload()
    assert serving.state == "serving"
    serving.stop()
    assert serving.state == "stopping"


def test_one_that_serves_may_begin(serving: Phase) -> None:
    serving.refuse_if_busy()
    with serving.replacing():
        pass
    serving.refuse_if_busy()


def test_what_is_under_way_is_named(serving: Phase) -> None:
    with pytest.raises(SupervisorError, match="the supervisor is starting"):
        Phase().refuse_if_busy()
    with serving.replacing(), pytest.raises(SupervisorError, match="the supervisor is replacing"):
        serving.refuse_if_busy()
    serving.begin_reload(reload())
    with pytest.raises(SupervisorError, match=r"a reload to 2\.0 is under way"):
        serving.refuse_if_busy()
    serving.end_reload()
    serving.stop()
    with pytest.raises(SupervisorError, match="the supervisor is stopping"):
        serving.refuse_if_busy()


def test_what_waits_begins_once_when_nothing_is_under_way(serving: Phase) -> None:
    begun: list[str] = []
    assert serving.begin_when_free(lambda: begun.append("at once"))
    serving.begin_reload(reload("bake"))
    for _ in range(3):
        assert not serving.begin_when_free(lambda: begun.append("after the reload"))
    with serving.replacing():
        serving.end_reload()
        assert begun == ["at once"]
    assert begun == ["at once", "after the reload"]
    serving.begin_reload(reload())
    serving.end_reload()
    assert len(begun) == 2


def test_what_came_during_the_start_begins_with_the_service() -> None:
    phase, begun = Phase(), []
    assert not phase.begin_when_free(lambda: begun.append(1))
    phase.serve()
    assert begun == [1]


def test_nothing_begins_during_the_end(serving: Phase) -> None:
    serving.begin_reload(reload())
    serving.begin_when_free(lambda: pytest.fail("it began"))
    serving.stop()
    serving.end_reload()


def test_a_replacement_that_fails_leaves_it_serving(serving: Phase) -> None:
    with pytest.raises(SupervisorError, match="not today"), serving.replacing():
        raise SupervisorError("not today")
    serving.refuse_if_busy()
