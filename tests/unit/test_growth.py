"""What a growth run measures where the machine is small, and what it keeps of a part that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.benchmarks import growth

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

GIB = 2**30


def test_what_memory_cannot_hold_is_left_out() -> None:
    assert growth.fits(1_000, GIB)
    assert growth.fits(10_000_000, 8 * GIB)
    assert not growth.fits(10_000_000, 4 * GIB)
    assert growth.free_bytes() > 0


def test_a_part_that_fails_keeps_what_it_had(capsys: pytest.CaptureFixture[str]) -> None:
    def part() -> Iterator[growth.Point]:
        yield growth.Point(1, 4.0, 1000.0, 2**20)
        yield growth.Point(10, 5.0, 1000.0, 2**20)
        raise TimeoutError("no answer")

    found: dict[str, Any] = {"failed": {}}
    growth._measure("nodes", part, found)
    assert [point.size for point in found["nodes"]] == [1, 10]
    assert found["failed"] == {"nodes": "TimeoutError: no answer"}
    head, one, ten, failed = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["nodes", "us", "a"]
    assert (one.split()[:2], ten.split()[:2]) == (["1", "4.0"], ["10", "5.0"])
    assert failed == "failed: nodes: TimeoutError: no answer"
