"""Blocks: what tells whether one of them has what is asked for."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from engine.base.deflate import compress
from engine.errors import StoreError
from engine.history.question import Question
from engine.tasks.blocks import ANYBODY, Block, close_block, open_body
from engine.tasks.columns import columns_of
from engine.tasks.hashes import crc_of, hashes_of_lines
from engine.tasks.packing import pack, segment_of
from engine.tasks.segments import may_have, read_record
from engine.tasks.settled import Columns, SettledTasks, Shape
from engine.tasks.words import Operation, State
from tests.fakes.settling import plan_of, settling

if TYPE_CHECKING:
    from engine.tasks.task import Task


def block_of(*tasks: object) -> Block:
    plans = {task.plan.key: task.plan.text for task in tasks}  # type: ignore[attr-defined]
    return close_block([read_record(record) for _, record in pack([*tasks])], plans)  # type: ignore[list-item]


def hash_of(target: str) -> bytes:
    """Return what this form puts into a block."""
    return hashes_of_lines(target, None)[0]


def test_a_block_tells_what_is_in_it() -> None:
    block = block_of(
        settling("t-1", "http://a/1", token="cms", at=10),
        settling("t-2", "http://b:81/2", "https://b/3", at=30, state=State.FAILED, plan=plan_of("edge-2")),
        settling("t-3", "c/key", kind="key", at=20, plan=plan_of("edge-1", operation=Operation.PURGE_KEY)),
    )
    assert (block.first_at, block.last_at, block.tasks, block.targets) == (10, 30, 3, 4)
    assert (block.who, block.nodes) == (["127.0.0.1", "cms"], ["edge-1", "edge-2"])
    assert sorted(block.hosts[at : at + 4] for at in range(0, len(block.hosts), 4)) == sorted(
        map(crc_of, ("a", "b:81", "b", "c"))
    )
    places = [
        block.hashes.find(hash_of(name)) for name in ("http://a/1", "http://b:81/2", "https://b/3", "c/key")
    ]
    assert places == [0, 4, 8, 12]
    assert (block.starts, block.patterns) == (b"", [])


def test_wide_purges_have_lists_of_their_own() -> None:
    block = block_of(
        settling("t-1", "http://a/x", kind="prefix"),
        settling("t-2", "*.example.com", kind="host"),
        settling("t-3", "http://a/.*", kind="regex"),
        settling("t-4", "http://a/1"),
    )
    assert {block.starts[at : at + 4] for at in (0, 4)} == {crc_of("a/x"), crc_of("*.example.com")}
    assert block.patterns == ["http://a/.*"]


def test_a_record_tells_by_its_bytes_whether_it_may_have_what_a_question_looks_for() -> None:
    question = Question(target="http://img.a/1", host="img.a", by="cms")
    words = question.wanted(question.cover(), 0).words

    def is_looked_at(*tasks: Task) -> bool:
        return all(may_have(record, words) for _, record in pack([*tasks]))

    assert is_looked_at(settling("t", "https://img.a/1"))
    assert is_looked_at(settling("t", "http://other/", kind="prefix"))
    assert is_looked_at(settling("t", "*.a", kind="host"))
    assert is_looked_at(settling("t", "http://other/.*", kind="regex"))
    assert not is_looked_at(settling("t", "http://img.a/2", token="cms"))
    assert is_looked_at(*[settling(f"t-{place}", "http://other/") for place in range(64)])
    assert may_have(pack([settling("t", "http://img.a/2")])[0][1], ())
    words = Question(host="img.a").wanted(None, 0).words
    assert is_looked_at(settling("t", "http://img.a/2"))
    assert is_looked_at(settling("t", "http://*.a/2"))
    assert not is_looked_at(settling("t", "http://other/", token="cms"))
    words = Question(by="cms").wanted(None, 0).words
    assert is_looked_at(settling("t", "http://other/", token="cms"))
    assert not is_looked_at(settling("t", "http://other/"))


def test_a_body_comes_back_and_a_damaged_one_says_so() -> None:
    block = block_of(settling("t-1", "http://a/1"))
    [part], plans = open_body(block.body)
    assert part.ids == ["t-1"]
    assert list(plans) == [settling("t", "http://a/").plan.key]  # type: ignore[union-attr]
    damaged = block.body.replace(compress(b"")[:2], b"xx")
    with pytest.raises(StoreError, match="cannot be read"):
        list(open_body(damaged)[0])
    with pytest.raises(StoreError, match="cannot be read"):
        open_body(block.body[:9])


def test_what_was_packed_and_what_was_not_make_one_block() -> None:
    """Hashes stand in the order of the parts, so where one is tells which task it is."""
    many = settling("many", *(f"http://a/{number}" for number in range(100)))
    records = [read_record(data) for task in (settling("one", "http://b/"), many) for _, data in pack([task])]
    block = close_block(records, {})
    parts = [Columns(part) for part in open_body(block.body)[0]]
    targets = [target for part in parts for place in range(len(part)) for target in part.targets(place)]
    assert block.hashes == b"".join(map(hash_of, targets))
    assert (len(targets), len(block.hosts)) == (101, 8)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_all_hosts_of_urls_are_known(count: int) -> None:
    """Those of one site are counted, others looked at one by one."""

    def hosts_of(*tasks: Task) -> set[str]:
        return set(segment_of(columns_of([*tasks])).head.hosts)

    one = [f"http://a/{number}" for number in range(count)]
    assert hosts_of(settling("t", *one), settling("t", *one)) == {"a"}
    assert hosts_of(settling("t", *one), settling("t", "https://b:81/http://a/")) == {"a", "b:81"}
    assert hosts_of(settling("t", *one, "http://ab/", "http://a.b/")) == {"a", "ab", "a.b"}
    assert hosts_of(settling("t", "http://b/http://a/", *one)) == {"a", "b"}
    assert hosts_of(settling("t", *one), settling("t", "c", kind="host")) == {"a", "c"}


def test_a_block_of_too_many_tokens_may_be_anybodys() -> None:
    tasks = [settling(f"t-{number}", "http://a/1", token=f"token-{number}") for number in range(300)]
    assert block_of(*tasks).who == [ANYBODY]


def test_tasks_without_targets_have_no_hashes() -> None:
    """Else what follows would be looked for at another place."""
    none = settling("none", state=State.FAILED)
    block = block_of(none, settling("one", "http://a/1"))
    assert block.hashes == hash_of("http://a/1")
    assert block_of(none).hashes == b""


def test_more_shapes_than_sixteen_bits_count_are_in_one_block_all_the_same() -> None:
    """Of records that could not be packed for long there are many, each perhaps of another client."""

    def record(first: int, count: int) -> SettledTasks:
        return SettledTasks(
            ids=[f"t-{number}" for number in range(first, first + count)],
            created=array("d", range(first, first + count)).tobytes(),
            settled=array("d", range(first, first + count)).tobytes(),
            states=bytes([2]) * count,
            counts=array("H", [1]).tobytes() * count,
            shape_of=array("H", range(count)).tobytes(),
            shapes=[
                Shape("purge", "url", False, False, f"t-{number}", b"", ("", "", ""))
                for number in range(first, first + count)
            ],
            targets="\n".join([f"http://a/{number}" for number in range(first, first + count)]),
        )

    block = close_block([record(0, 33_000), record(33_000, 33_000)], {})
    assert (block.tasks, block.targets) == (66_000, 66_000)
    parts, _ = open_body(block.body)
    last = [Columns(part).task(len(part.ids) - 1) for part in parts][-1]
    assert (last.shape.token, last.targets) == ("t-65999", ["http://a/65999"])
