"""What an engine writes into the log of prefetches. Fields are only added."""

from __future__ import annotations

import msgspec


class Begun(msgspec.Struct, array_like=True):
    """A prefetch that is about to be sent."""

    number: int  #: given by its engine, to no other
    lasts_s: float  #: it counts as ended after so long, if nobody says so
    url: str  #: without scheme
    nodes: list[str]  #: where it is under way
    task_ids: list[str] = []  #: whose it is


class Change(msgspec.Struct, omit_defaults=True):
    """What one engine process says at a time."""

    by: str  #: its consumer name
    began: list[Begun] = []
    ended: list[int] = []  #: numbers; also of some that *began* holds
