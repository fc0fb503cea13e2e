"""Documents in Redis: what stands in tasks' keys, and the listing of tasks.

A task's document begins as a stub that says where its journal entry is (``@CONSUMER ENTRY``): what the task
asks for is not stored twice. Its document is then made from that entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.errors import StoreError
from engine.store.redis.part import RedisPart
from engine.store.redis.records import Live, facts_of, read_live
from engine.store.redis.scripts import BEHIND
from engine.tasks.records import FIRST_PAGE, PageStart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.store.redis.script import Command
    from engine.tasks.records import Accepted

_SCAN_TASKS: Final = 20_000  #: tasks one page of a filtered listing looks at
_PLACES: Final = 1024  #: regions at the most; a row of the listing is microseconds and region


class RedisDocuments(RedisPart):
    """The part of the store that reads tasks.

    Attributes:
        describe: makes the private document of a task that has only been accepted, of its record and the
            text of its plan.
    """

    describe: Callable[[Accepted, bytes], bytes]
    plans: Callable[[Sequence[Accepted]], dict[bytes, bytes]]  #: see `Store.plans`

    def values(self, task_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return what stands in tasks' keys."""
        replies = self.link.all([("GET", self.keys.task(task_id)) for task_id in task_ids])
        return dict(zip(task_ids, replies, strict=True))

    def values_in_part(
        self, task_ids: Sequence[str]
    ) -> tuple[dict[str, bytes | None], dict[str, StoreError]]:
        """Return what stands in tasks' keys, and of which tasks that cannot be read, and why."""
        replies = self.link.run([("GET", self.keys.task(task_id)) for task_id in task_ids])
        values: dict[str, bytes | None] = {}
        errors: dict[str, StoreError] = {}
        for task_id, reply in zip(task_ids, replies, strict=True):
            if isinstance(reply, StoreError):
                errors[task_id] = reply
            else:
                values[task_id] = reply
        return values, errors

    def shown(self, values: dict[str, bytes | None]) -> dict[str, bytes]:
        """Return private documents for what stands in tasks' keys; of stubs from their records."""
        shown: dict[str, bytes] = {}
        stubs: dict[tuple[int, str], set[str]] = {}
        for task_id, value in values.items():
            live = None if value is None else read_live(value)
            if live is None:
                if value is not None:
                    shown[task_id] = value
            elif live.progress:
                shown[task_id] = live.progress
            else:
                stubs.setdefault((self.keys.region(task_id), live.entry), set()).add(task_id)
        if stubs:
            self._describe(stubs, shown)
        return shown

    def _describe(self, stubs: dict[tuple[int, str], set[str]], shown: dict[str, bytes]) -> None:
        replies = self.link.all(
            [("XRANGE", self.keys.streams[region], entry, entry) for region, entry in stubs]
        )
        gone: list[str] = []
        records: list[Accepted] = []
        for ((region, _), ids), reply in zip(stubs.items(), replies, strict=True):
            if not reply:
                gone += ids  # settled since its key was read
                continue
            for entry in self.read_entries(region, [reply]):
                records += [record for record in entry.accepted if record.id in ids]
        plans = self.plans(records)
        for record in records:
            shown[record.id] = self.describe(record, plans.get(record.plan, b""))
        if gone:
            shown.update(
                {name: text for name, text in self.values(gone).items() if text and text[:1] == b"{"}
            )

    def live(self, task_id: str) -> Live | None:
        """Return who works on a task, or None: it is stored, or there is none."""
        value = self.link.one("GET", self.keys.task(task_id))
        return None if value is None else read_live(value)

    def document(self, task_id: str) -> bytes | None:
        """See `Store.document`. Of a task at work it is as old as its last progress."""
        value = self.link.one("GET", self.keys.task(task_id))
        return self.shown({task_id: value}).get(task_id)

    def documents(
        self,
        state: str | None,
        begin: PageStart,
        limit: int,
        missing: set[int] | None = None,
        token: str | None = None,
    ) -> tuple[list[bytes], PageStart | None]:
        """See `Store.documents`."""
        page_texts: list[bytes] = []
        looked_at = 0
        at: PageStart | None = begin
        while at is not None and len(page_texts) < limit and looked_at < _SCAN_TASKS:
            want = limit if state is None and token is None else max(limit, 500)
            page, at = self._page(at, want, missing)
            looked_at += len(page)
            texts = self._shown_of([task_id for _, task_id in page], missing)
            for number, (_, task_id) in enumerate(page, 1):
                text = texts.get(task_id)
                if text is not None and _is_of(text, state, token):
                    page_texts.append(text)
                    if len(page_texts) == limit:
                        at = _behind(page, number) if number < len(page) else at
                        break
        return page_texts, at

    def _shown_of(self, task_ids: list[str], missing: set[int] | None) -> dict[str, bytes]:
        """Return the private documents of tasks that can be read."""
        values, errors = self.values_in_part(task_ids)
        if missing is None:
            for error in errors.values():
                raise error
        else:
            missing.update(map(self.keys.region, errors))
        return self.shown(values)

    def _page(
        self, begin: PageStart, limit: int, missing: set[int] | None = None
    ) -> tuple[list[tuple[int, str]], PageStart | None]:
        """Return rows and ids, newest first, of one row by id; and where the next page begins."""
        commands: list[Command] = []
        score, rest = divmod(begin.row, _PLACES)
        more = limit + 1  # tells whether there is a next page, and whether that begins in the row of the last
        for region, tag in enumerate(self.keys.tags):
            if region == rest and begin.task_id:
                commands.append(BEHIND.call([f"{tag}index"], [score, begin.task_id, more]))
                continue
            top = f"{score}" if region < rest else f"({score}"
            commands.append(("ZREVRANGEBYSCORE", f"{tag}index", top, "-inf", "WITHSCORES", "LIMIT", 0, more))
        places: list[tuple[int, str]] = []
        replies = self.link.all(commands) if missing is None else self.readable(commands)
        for region, reply in enumerate(replies):
            if reply is None and missing is not None:
                missing.add(region)
                continue
            for task_id, score in zip(*[iter(reply)] * 2, strict=True):
                places.append((int(float(score)) * _PLACES + region, task_id.decode()))
        places.sort(reverse=True)
        return places[:limit], _behind(places, limit) if len(places) > limit else None

    def count(self) -> dict[str, int]:
        """See `Store.count`. Looks at every task."""
        rows = sum(self.link.all([("XLEN", stream) for stream in self.keys.streams]))
        settled = 0
        at: PageStart | None = FIRST_PAGE
        while at is not None:
            page, at = self._page(at, 1000)
            values = self.values([task_id for _, task_id in page])
            settled += sum(value is not None and value.startswith(b"{") for value in values.values())
        return {"settled": settled, "journal_rows": rows}


def _behind(places: Sequence[tuple[int, str]], count: int) -> PageStart:
    """Return where a page begins behind the first *count* of some places, when others follow.

    An id is named only among tasks of one row: an engine of the version before does not know it.
    """
    row, task_id = places[count - 1]
    return PageStart(row, task_id if places[count][0] == row else "")


def _is_of(document: bytes, state: str | None, token: str | None) -> bool:
    if state is None and token is None:
        return True
    facts = facts_of(document)
    return state in {None, facts.state} and token in {None, facts.token}
