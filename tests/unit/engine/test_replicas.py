"""What a number of replicas to wait for can lose, and whose word counts about masters of a cluster."""

from typing import Any

import pytest

from engine.store.redis.replicas import Look, Master, losses, masters_of


@pytest.mark.parametrize(
    ("wait", "replicas", "told"),
    [
        (1, [1, 1], []),
        (2, [2], []),
        ("all", [1, 3], []),
        (1, [2, 1], ["a failover to one that had not got a task yet loses it"]),
        (2, [2, 1], ["a master has 1 replicas: what it should store is answered 503"]),
        ("all", [2, 0], ["a master has no replica"]),
    ],
)
def test_what_can_be_lost_is_told(wait: Any, replicas: list[int], told: list[str]) -> None:
    look = Look(
        0.0,
        {f"m{number}": Master(frozenset(map(str, range(count)))) for number, count in enumerate(replicas)},
    )
    found = losses(look, wait)
    assert len(found) == len(told)
    assert all(text in one for text, one in zip(told, found, strict=True))


def view(own: str, **flags: str) -> dict[str, Any]:
    """What node *own* says of masters ``m…`` and replicas ``rN`` of master ``mN``."""
    return {
        f"{name}:1": {
            "node_id": name,
            "flags": ("myself," if name == own else "") + said,
            "master_id": "-" if name.startswith("m") else f"m{name[1:]}",
            "slots": [["0", "1"]] if "master" in said else [],
        }
        for name, said in flags.items()
    }


def test_a_master_of_a_cluster_is_one_as_long_as_a_majority_may_say_so() -> None:
    whole = {"m1": "master", "m2": "master", "m3": "master", "r1": "slave", "r2": "slave"}
    old = {**whole, "r1": "slave,fail?"}
    new = {**whole, "m1": "master,fail", "r1": "master"}
    masters, marks = masters_of([view("m1", **whole), view("m2", **whole), view("m3", **whole)])
    r1, r2 = frozenset({"r1:1"}), frozenset({"r2:1"})
    assert masters == {"m1": Master(r1), "m2": Master(r2), "m3": Master(frozenset())}
    assert marks["m1:1"] == "m1"
    assert "m1" not in masters_of([view("m1", **old), view("m2", **new), view("m3", **new)])[0]
    assert "m1" not in masters_of([view("m1", **old)])[0]
    assert masters_of([view("m1", **old), view("m2", **old)])[0]["m1"] == Master(r1)
    away = {**whole, "r2": "slave,fail"}
    assert masters_of([view("m1", **away), view("m3", **away)])[0]["m2"] == Master(r2, away=r2)


@pytest.mark.parametrize(
    ("away", "connected", "needed"),
    [
        ("", "ab", 2),
        ("", "a", 2),
        ("a", "b", 1),
        ("a", "a", 2),  # its word may come in the place of b's
        ("ab", "", 1),  # nobody may become the master: it is not stored
        ("", "abc", 3),  # the others have not heard of c yet
        ("a", "xy", 2),  # the master calls them otherwise
    ],
)
def test_each_replica_that_is_present_has_acknowledged_when_so_many_have(
    away: str, connected: str, needed: int
) -> None:
    assert Master(frozenset("ab"), frozenset(away)).needed(frozenset(connected)) == needed
