"""Buffers are lent and come back."""

from __future__ import annotations

from engine.base.buffers import BUFFER_BYTES, BufferPool


def test_a_buffer_that_came_back_is_lent_again() -> None:
    pool = BufferPool(100)
    first = pool.take()
    assert len(first) == 100
    other = pool.take()
    assert other is not first
    assert pool.lent_count == 2
    pool.give_back(first)
    assert pool.take() is first
    assert repr(pool) == "<BufferPool 100 B [2 lent, 0 free]>"


def test_no_more_buffers_are_kept_than_said() -> None:
    pool = BufferPool(10, kept_count=3)
    for buffer in [pool.take() for _ in range(10)]:
        pool.give_back(buffer)
    assert pool.lent_count == 0
    assert repr(pool) == "<BufferPool 10 B [0 lent, 3 free]>"


def test_the_usual_buffer_holds_the_longest_head() -> None:
    assert len(BufferPool().take()) == BUFFER_BYTES >= 2 * 32 * 1024
