"""What a rewind sends, and in which order."""

from __future__ import annotations

from engine.api.rewind_parts import sendable
from engine.api.schemas import RewindLeftOut
from engine.history.missed import Key, Missed, Slice, slices
from engine.history.recall import Purge
from engine.tasks.words import Kind

A, B = "http://img.example.com/a", "http://img.example.com/b"


def missed(*purges: tuple[float, str, bool, list[str]]) -> Missed:
    made = Missed()
    made.add(Purge(*purge) for purge in purges)
    return made


def url(target: str, *, soft: bool = False) -> Key:
    return ("url", soft, target)


def test_each_target_is_sent_once_where_it_was_purged_first() -> None:
    """Whatever the order in which the histories of workers tell it."""
    found = missed((9, "url", False, [A]), (5, "url", False, [B]), (1, "url", False, [A]))
    assert found.in_order() == [url(A), url(B)]
    assert (found.purges, len(found)) == (3, 2)


def test_a_soft_purge_is_not_a_hard_one() -> None:
    assert missed((1, "url", True, [A]), (2, "url", False, [A])).in_order() == [url(A, soft=True), url(A)]


def test_the_later_purge_of_a_prefix_or_of_a_host_takes_the_urls_under_it() -> None:
    wide: list[tuple[str, list[str]]] = [
        ("prefix", ["http://img.example.com/"]),
        ("host", ["img.example.com"]),
    ]
    for kind, targets in wide:
        found = missed((1, "url", False, [A]), (2, kind, False, targets), (3, "url", False, [B]))
        assert found.in_order() == [(kind, False, targets[0]), url(B)]


def test_a_soft_purge_of_a_prefix_takes_soft_ones_alone_and_none_of_another_host() -> None:
    other = "http://img.example.com.org/a"
    found = missed(
        (1, "url", False, [A, other]),
        (1, "url", True, [B, other]),
        (2, "prefix", True, ["http://img.example.com/"]),
    )
    assert set(found.in_order()) == {
        url(A), url(other), url(other, soft=True), ("prefix", True, "http://img.example.com/"),
    }  # fmt: skip


def test_a_wide_purge_that_the_node_cannot_do_takes_no_urls() -> None:
    """It is left out, and the URLs are all that the node gets."""
    prefix: Key = ("prefix", False, "http://img.example.com/")
    found = missed((1, "url", False, [A]), (2, prefix[0], prefix[1], [prefix[2]]))
    lacks = {(kind.value, of): "nginx" if kind == "prefix" else "" for kind in Kind for of in (False, True)}
    assert sendable(found, lacks, lambda _: True) == (
        [url(A)],
        [RewindLeftOut("prefix", 1, "nginx")],
    )


def test_hosts_take_the_place_of_too_many_targets_but_not_of_surrogate_keys() -> None:
    found = missed((1, "url", True, [A, B]), (2, "key", False, ["img.example.com/k"]))
    found.go_by_host()
    found.add([Purge(3, "prefix", False, ["http://other.example.com/x/"])])
    assert found.in_order() == [
        ("host", False, "img.example.com"),
        ("key", False, "img.example.com/k"),
        ("host", False, "other.example.com"),
    ]


def test_targets_go_at_their_rate_in_no_more_tasks_than_so_many() -> None:
    keys = [url(f"http://a/{number}") for number in range(10)]
    found = slices(keys, 10, slice_s=0.2, slices_max=100)
    assert [(one.after_s, len(one.targets)) for one in found] == [
        (0, 2),
        (0.2, 2),
        (0.4, 2),
        (0.6, 2),
        (0.8, 2),
    ]
    found = slices(keys, 10, slice_s=0.2, slices_max=2)
    assert [(one.after_s, len(one.targets)) for one in found] == [(0, 5), (0.5, 5)]
    assert [one.after_s for one in slices(keys[:3], 0.5, slice_s=0.2, slices_max=100)] == [0, 2, 4]


def test_a_moment_has_a_task_for_each_kind_soft_and_host_pattern() -> None:
    keys: list[Key] = [url(A), url(B, soft=True), ("host", False, "a"), ("host", False, "*.a"), url(B)]
    assert slices(keys, 100, slice_s=1, slices_max=9) == [
        Slice(0, "url", False, [A, B]),
        Slice(0, "url", True, [B]),
        Slice(0, "host", False, ["a"]),
        Slice(0, "host", False, ["*.a"]),
    ]
