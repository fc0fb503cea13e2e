"""Rows of delay queues as scripts take them, and as Redis answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.store.redis import host_rows
from engine.store.redis.keys import member_of, queue_of
from engine.tasks.records import ParkedRow, token_of_row
from engine.tasks.words import WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.records import Delivered, Parked


class Row(msgspec.Struct, frozen=True):
    """A row as scripts take it."""

    queues: list[str]  #: its queue first, then indexes that have it too; without the region's tag
    member: str
    target: str
    at: float = 0.0
    token: str = ""  #: what children call it, that may go when it is delivered
    must_be_there: bool = False  #: what it counts is counted once

    @classmethod
    def parked(cls, row: Parked) -> Row:
        """Return a row to be added."""
        queue = queue_of(row.operation, row.after)
        queues = [queue + row.node]
        if queue == "delay:" and row.operation in WIDE:
            queues.append(f"wide:{row.node}")
        return cls(queues, member_of(row.operation, row.task_id, row.target), row.target, row.parked_at)

    @classmethod
    def delivered(cls, settled: Delivered, *, must_be_there: bool) -> Row:
        """Return a row to be dropped because of what became of it."""
        return cls.read(settled.row, token=token_of_row(settled.row), must_be_there=must_be_there)

    @classmethod
    def read(cls, row: ParkedRow, *, token: str = "", must_be_there: bool = False) -> Row:
        """Return a row to be dropped."""
        if host_rows.is_host_row(row):
            return cls([f"host:{row.node}"], str(row.key), row.target, 0.0, token, must_be_there)
        queue = queue_of(row.operation, row.after)
        queues = [queue + row.node]
        if queue == "delay:" and row.operation in WIDE:
            queues.append(f"wide:{row.node}")
        member = member_of(row.operation, row.task_id, row.target)
        return cls(queues, member, row.target, 0.0, token, must_be_there)


def rows_behind(parked: Sequence[Parked]) -> dict[str, bytes]:
    """Return what a task's ``behind`` hash holds for rows that wait for parents: target → JSON."""
    by_target: dict[str, list[list[str]]] = {}
    for row in parked:
        if row.after:
            member = member_of(row.operation, row.task_id, row.target)
            by_target.setdefault(row.target, []).append(
                [row.node, str(int(row.operation)), row.after, member]
            )
    return {target: msgspec.json.encode(rows) for target, rows in by_target.items()}


def rows_in(node: str, reply: Sequence[bytes] | None, *, after: str = "") -> list[ParkedRow]:
    """Return the rows of a node that Redis answered, with their scores; None: it did not."""
    rows = []
    for member, score in zip(*[iter(reply or ())] * 2, strict=True):
        rows.append(row_of(node, member.decode(), float(score), after))
    return rows


def row_of(node: str, member: str, at: float, after: str) -> ParkedRow:
    """Return the row of a member."""
    if member.startswith(host_rows.MARK):
        return host_rows.read(node, member, at)
    operation, task_id, target = member.split(" ", 2)
    return ParkedRow(member, at, node, int(operation), target, task_id, after, at)
