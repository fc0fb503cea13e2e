"""release.agent.salt: a result of Salt taken apart."""

from release.agent.salt import states_of


def test_states_are_in_the_order_they_ran() -> None:
    result = {
        "file_|-b_|-/b_|-managed": {"__run_num__": 1, "result": None, "name": "/b", "changes": {"diff": "x"}},
        "service_|-a_|-a_|-running": {
            "__run_num__": 0,
            "result": True,
            "__id__": "engine-a",
            "comment": "ok",
        },
    }
    first, second = states_of(result)
    assert first == {
        "id": "engine-a",
        "function": "service.running",
        "name": "a",
        "result": True,
        "comment": "ok",
        "changes": {},
    }
    assert (second["id"], second["name"], second["result"], second["changes"]) == (
        "b",
        "/b",
        None,
        {"diff": "x"},
    )
