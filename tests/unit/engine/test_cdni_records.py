"""How often the triggers of a client are looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from engine.doors.cdni import records as module
from engine.doors.cdni.records import Records
from engine.store.triggers import Kept, Listed
from engine.tasks.triggers import Status, TriggerRecord

if TYPE_CHECKING:
    import pytest

ACTIVE = frozenset({Status.ACTIVE})
COUNT = 200


class Bench:
    """Triggers that never settle, and who looks at them."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.records = Records(self, self, self, retention_s=60)  # type: ignore[arg-type]

    async def read(self, function: Any, *arguments: object) -> Any:
        """Call at once, in place of a thread."""
        return function(*arguments)

    def listed(self, _token: str, _settled: object) -> list[Listed]:
        return [Listed(f"{number:03x}", "active") for number in range(COUNT)]

    def get(self, token: str, trigger_id: str) -> Kept:
        self.looked.append(trigger_id)
        return Kept(
            1,
            TriggerRecord(
                id=trigger_id,
                token=token,
                ctime=1,
                mtime=1,
                etime=1,
                status=Status.ACTIVE,
                spec=msgspec.Raw(b"{}"),
                tasks={"url": trigger_id},
            ),
        )

    async def private(self, _task_id: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"state": "running", "updated_at": 1.0}


async def test_a_client_that_asks_all_the_time_is_shown_what_was_seen_a_moment_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ANEW_S", 600)
    monkeypatch.setattr(module, "_LOOK_S", 600)  # so all of them, also on a busy machine
    bench = Bench()
    for _ in range(20):
        assert len(await bench.records.listed("t", ACTIVE)) == COUNT
    await asyncio.gather(*(bench.records.listed("t", ACTIVE) for _ in range(20)))
    assert len(bench.looked) == COUNT, "once"


async def test_of_many_triggers_all_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is short: the next one goes on where it ended, and begins anew at the end."""
    monkeypatch.setattr(module, "_ANEW_S", 0)
    monkeypatch.setattr(module, "_LOOK_S", -1)  # as many as are looked at together
    bench = Bench()
    for _ in range(COUNT // 8):
        assert len(await bench.records.listed("t", ACTIVE)) == COUNT
    assert set(bench.looked) == {one.id for one in bench.listed("t", None)}
    assert len(bench.looked) < 3 * COUNT
