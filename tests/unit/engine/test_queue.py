"""What waits for one node: nothing lost, nothing twice, nobody starved."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from engine.nodes.queue import QUANTUM, NodeQueue
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, BLOCKED, CANCELLED, QUEUED, RETRYING, SENT, Operation

if TYPE_CHECKING:
    from engine.nodes.queue import Item

NODE = SimpleNamespace(name="n")
Pair = tuple[Share, int]


def share_of(*targets: str, name: str = "t", operation: Operation = Operation.PURGE_URL) -> Share:
    return Share(Task.internal(list(targets), owner=None, task_id=name), NODE, operation, len(targets))


def numbered(count: int, name: str) -> Share:
    return share_of(*(f"http://{name}/{number}" for number in range(count)), name=name)


def targets_of(items: list[Item]) -> list[str]:
    return [share.task.targets[index] for share, index, _ in items]


def pairs_of(items: list[Item]) -> list[Pair]:
    return [pair for share, index, others in items for pair in ((share, index), *(others or ()))]


def test_what_is_added_comes_out_once_and_in_order() -> None:
    queue, share = NodeQueue(), numbered(50, "a")
    queue.add(share, range(50))
    assert len(queue) == 50
    assert queue
    assert set(share.states) == {QUEUED}
    first, rest = queue.take(7), queue.take(1000)
    assert targets_of(first + rest) == share.task.targets
    assert set(share.states) == {SENT}
    assert queue.take(10) == []
    assert len(queue) == 0
    assert not queue


def test_whole_tasks_wait_for_one_another_whether_they_are_large_or_small() -> None:
    """A target that another waits for is sent once, wherever it stands among the others."""
    for count in (1, 2, 7, 8, 9, 50):
        for place in {0, count // 2, count - 1}:
            queue, first, second = NodeQueue(), numbered(count, "a"), numbered(count, "b")
            second.task.targets[place] = first.task.targets[place]
            queue.add(first, range(count))
            queue.add(second, range(count))
            items = queue.take(1000)
            assert len(items) == len(set(targets_of(items))) == 2 * count - 1
            wanted = {(share, index) for share in (first, second) for index in range(count)}
            assert len(pairs_of(items)) == 2 * count
            assert set(pairs_of(items)) == wanted
            assert not queue._waiting


def test_a_small_task_waits_for_a_handful_of_a_large_one() -> None:
    queue, large, small = NodeQueue(), numbered(10_000, "large"), numbered(1, "small")
    queue.add(large, range(10_000))
    queue.take(5)
    queue.add(small, [0])
    assert "http://small/0" in targets_of(queue.take(2 * QUANTUM))


def test_lanes_share_evenly() -> None:
    queue = NodeQueue()
    shares = [numbered(1000, f"t{number}") for number in range(5)]
    for share in shares:
        queue.add(share, range(1000))
    taken = queue.take(5 * QUANTUM * 10)
    for share in shares:
        assert sum(item[0] is share for item in taken) == QUANTUM * 10


def test_a_target_that_several_wait_for_is_sent_once_and_settles_all() -> None:
    queue = NodeQueue()
    shares = [share_of("http://x/", f"http://own/{number}", name=f"t{number}") for number in range(3)]
    for share in shares:
        queue.add(share, [0, 1])
    assert len(queue) == 4
    taken = queue.take(100)
    assert sorted(targets_of(taken)) == ["http://own/0", "http://own/1", "http://own/2", "http://x/"]
    assert queue.coalesced == 2
    assert all(state == SENT for share in shares for state in share.states)
    assert len(pairs_of(taken)) == 6


def test_what_is_on_the_wire_is_not_joined() -> None:
    queue, one, other = NodeQueue(), share_of("http://x/"), share_of("http://x/")
    queue.add(one, [0])
    assert queue.take(1)[0][2] is None
    queue.add(other, [0])
    assert queue.take(1) == [(other, 0, None)]
    assert queue.coalesced == 0


def test_another_operation_is_another_request() -> None:
    queue = NodeQueue()
    hard, soft = share_of("http://x/"), share_of("http://x/", operation=Operation.SOFT_URL)
    queue.add(hard, [0])
    queue.add(soft, [0])
    assert len(queue.take(10)) == 2
    assert queue.coalesced == 0


def test_what_is_put_back_comes_first_and_in_its_order() -> None:
    queue, share, other = NodeQueue(), numbered(40, "a"), numbered(40, "b")
    queue.add(share, range(40))
    queue.add(other, range(40))
    sent = queue.take(40)  # 16 of a, 16 of b, 8 of a
    queue.put_back(sent)
    assert all(owner.states[index] == QUEUED for owner, index in pairs_of(sent))
    again = queue.take(80)
    assert len(again) == 80
    for owner in (share, other):
        assert [index for of, index, _ in again if of is owner] == list(range(40))


def test_coalesced_requests_that_are_put_back_are_one_request_again() -> None:
    queue, one, other = NodeQueue(), share_of("http://x/"), share_of("http://y/", "http://x/")
    queue.add(one, [0])
    queue.add(other, [0, 1])
    queue.put_back(queue.take(1))
    assert len(queue) == 2
    assert sorted(targets_of(queue.take(10))) == ["http://x/", "http://y/"]


def test_a_cancelled_subtask_is_not_sent_but_the_same_target_of_another_task_is() -> None:
    queue, one, other = NodeQueue(), numbered(3, "x"), numbered(3, "x")
    queue.add(one, range(3))
    queue.add(other, [1])
    for index in range(3):
        one.states[index] = CANCELLED
    queue.forget(one, range(3))
    assert len(queue) == 1
    assert queue.take(10) == [(other, 1, None)]
    assert set(one.states) == {CANCELLED}


def test_taking_all_gives_each_waiting_subtask_once_even_after_it_was_put_back() -> None:
    """One sent by another task's lane and put back stands in its own lane twice."""
    queue, one, other = NodeQueue(), share_of("http://x/"), share_of("http://y/", "http://x/")
    queue.add(one, [0])
    queue.add(other, [0, 1])
    queue.put_back(queue.take(1))
    assert sorted(queue.take_all(), key=lambda pair: (pair[0] is other, pair[1])) == [
        (one, 0), (other, 0), (other, 1),
    ]  # fmt: skip
    assert len(queue) == 0
    assert not queue
    assert queue.take(10) == []


def test_after_taking_all_the_queue_works_as_new() -> None:
    queue, share = NodeQueue(), numbered(5, "a")
    queue.add(share, range(5))
    queue.take_all()
    queue.add(share, [3, 4])
    assert queue.take(10) == [(share, 3, None), (share, 4, None)]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_nothing_is_lost_or_sent_twice(seed: int) -> None:
    """Random operations against a model that only knows each subtask's state."""
    rng = random.Random(seed)
    queue = NodeQueue()
    operations = [Operation.PURGE_URL, Operation.PURGE_PREFIX]
    names = [f"http://x/{number}" for number in range(12)]
    shares = [
        share_of(
            *rng.sample(names, rng.randrange(1, 12)), name=f"t{number}", operation=rng.choice(operations)
        )
        for number in range(6)
    ]
    states: dict[Pair, int] = {
        (share, index): BLOCKED for share in shares for index in range(len(share.states))
    }
    flying: list[Item] = []

    def in_state(*wanted: int) -> list[Pair]:
        return [pair for pair, state in states.items() if state in wanted]

    def move(pairs: list[Pair], state: int) -> None:
        for pair in pairs:
            states[pair] = state

    def add(state: int) -> None:
        by_share: dict[Share, list[int]] = {}
        ready = in_state(state)
        for share, index in rng.sample(ready, rng.randrange(len(ready) + 1)):
            by_share.setdefault(share, []).append(index)
        for share, indexes in by_share.items():
            queue.add(share, indexes)
            move([(share, index) for index in indexes], QUEUED)

    def check(when: str) -> None:
        text = f"seed {seed}, {when}"
        for (share, index), state in states.items():
            assert share.states[index] == state, text
        wanted = {(share.operation, share.task.targets[index]) for share, index in in_state(QUEUED)}
        assert len(queue) == len(wanted), text
        assert bool(queue) or not wanted, text

    for step in range(150):
        action = rng.choice(["add", "take", "take", "answer", "answer", "lose", "again", "cancel", "all"])
        if action == "add":
            add(BLOCKED)
        elif action == "again":
            add(RETRYING)
        elif action == "take":
            waiting = set(in_state(QUEUED))
            taken = queue.take(count := rng.randrange(1, 20))
            pairs = pairs_of(taken)
            assert len(taken) <= count
            assert len(set(pairs)) == len(pairs), f"seed {seed}, step {step}: twice in one take"
            assert set(pairs) <= waiting, f"seed {seed}, step {step}: sent what did not wait"
            for share, index, others in taken:  # all that wait for the same go with it
                key = (share.operation, share.task.targets[index])
                same = {pair for pair in waiting if (pair[0].operation, pair[0].task.targets[pair[1]]) == key}
                assert same == {(share, index), *(others or ())}, f"seed {seed}, step {step}"
            if len(taken) < count:
                assert set(pairs) == waiting, f"seed {seed}, step {step}: left something"
            move(pairs, SENT)
            flying += taken
        elif action == "answer":
            for item in flying[: rng.randrange(len(flying) + 1)]:
                flying.remove(item)
                state = rng.choice([ACKED, ACKED, RETRYING])
                for share, index in pairs_of([item]):
                    share.states[index] = state
                move(pairs_of([item]), state)
        elif action == "lose":
            lost = flying[rng.randrange(len(flying) + 1) :]
            del flying[len(flying) - len(lost) :]
            queue.put_back(lost)
            move(pairs_of(lost), QUEUED)
        elif action == "cancel":
            share = rng.choice(shares)
            taken_out = [pair for pair in in_state(QUEUED) if pair[0] is share and rng.random() < 0.5]
            for _, index in taken_out:
                share.states[index] = CANCELLED
            queue.forget(share, [index for _, index in taken_out])
            move(taken_out, CANCELLED)
        elif rng.random() < 0.2:
            waiting = set(in_state(QUEUED))
            everything = queue.take_all()
            assert len(everything) == len(set(everything)), f"seed {seed}, step {step}: twice"
            assert set(everything) == waiting, f"seed {seed}, step {step}"
            for share, index in everything:
                share.states[index] = RETRYING
            move(everything, RETRYING)
        check(f"step {step}: {action}")


def test_an_emptied_queue_keeps_no_table() -> None:
    """A dictionary does not shrink; what waits later begins with a new one."""
    queue = NodeQueue()
    share = numbered(1000, "a")
    queue.add(share, range(1000))
    assert len(queue.take(999)) == 999
    assert queue._waiting
    assert len(queue.take(2)) == 1
    assert queue._waiting == {}
    queue.add(share_of("again"), [0])
    assert len(queue.take(1)) == 1
