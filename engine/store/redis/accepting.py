"""Accepted tasks on their way to Redis: a call for each region; and the answers for ids that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.errors import StoreError
from engine.store.redis.keys import GROUP, PLAN_MS
from engine.store.redis.records import encode_task, facts_of, journal_key
from engine.store.redis.scripts import ACCEPT
from engine.store.redis.stepwise import Stepwise, is_between_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.store.redis.documents import RedisDocuments
    from engine.store.redis.script import Command
    from engine.tasks.records import Batch, Committed

RECORDS_MAX: Final = 1000  #: in one call: Lua passes no more than some thousand values on


class Add(Protocol):
    """Adds a command to a pipeline."""

    def __call__(self, command: Command, then: Callable[[Any], None], *, places: list[int]) -> None:
        """Add *command*; *then* is given its answer, *places* are of the accepted tasks that it saves."""


class Accepting:
    """The accepted tasks of a batch; plans are sent only when the store has not got them.

    Args:
        stored: shows documents of ids that are known already.
        consumer: name of this engine process.
        batch: what is written.
        done: told what came of it.
        add: takes the commands.
    """

    def __init__(
        self, stored: RedisDocuments, consumer: str, batch: Batch, done: Committed, add: Add
    ) -> None:
        self._stored = stored
        self._consumer = consumer
        self._keys = stored.keys
        self._batch = batch
        self._done = done
        self._add = add
        self._without_plan: list[tuple[int, list[int]]] = []  # region and places of what was not accepted
        self._between: list[int] = []  # places of what no server has all keys of

    def add_all(self) -> None:
        """Add the commands for all accepted tasks, without the plans that the store may have."""
        accepted = self._batch.accepted
        regions: dict[int, list[int]] = {}
        for place, record in enumerate(accepted):
            regions.setdefault(self._keys.region(record.id), []).append(place)
        for region, all_places in regions.items():
            for first in range(0, len(all_places), RECORDS_MAX):
                self._accept_in(region, all_places[first : first + RECORDS_MAX])

    def _accept_in(self, region: int, places: list[int], *, with_plans: bool = False) -> None:
        accepted = self._batch.accepted
        tag = self._keys.tags[region]
        records = [accepted[place] for place in places]
        plans = list(dict.fromkeys(record.plan for record in records if record.plan in self._batch.plans))
        flat: list[Any] = [GROUP, self._consumer, len(plans), PLAN_MS]
        flat += [self._batch.plans[key] if with_plans else b"" for key in plans]
        for record in records:
            flat += (
                record.id,
                int(record.created_at * 1e6),
                "1" if record.digest else "0",
                encode_task(record),
            )
        names = [self._keys.plan(region, key) for key in plans]
        names += [f"{tag}task:{record.id}" for record in records]
        self._add(
            ACCEPT.call([self._keys.streams[region], f"{tag}index", *names], flat),
            self._accepted(region, places),
            places=places,
        )

    def _accepted(self, region: int, places: list[int]) -> Callable[[Any], None]:
        def note(reply: Any) -> None:
            entry, known = reply
            if entry == b"?":
                self._without_plan.append((region, places))
                return
            key = journal_key(region, entry.decode()) if entry else ""
            for place in places:
                self._done.journal[place] = key
            for number, value in zip(*[iter(known)] * 2, strict=True):
                self._done.known[self._batch.accepted[places[number]].id] = ("", value)

        return note

    def add_without_plan(self) -> None:
        """Add those again whose plans the store had not, with the plans."""
        without_plan, self._without_plan = self._without_plan, []
        for region, places in without_plan:
            self._accept_in(region, places, with_plans=True)

    def failed(self, places: list[int], error: StoreError) -> None:
        """Refuse the accepted tasks at *places* of the batch, or note them for `add_between`."""
        if is_between_servers(error):
            self._between += places
            return
        for place in places:
            self._done.refused[self._batch.accepted[place].id] = error

    def add_between(self) -> None:
        """Save those whose keys are on two servers."""
        if self._between:
            link, keys = self._stored.link, self._keys
            work = Stepwise(link, keys, self._consumer, self._batch, self._done, plan_ms=PLAN_MS)
            work.accept(self._between)

    def show_known(self) -> None:
        """Find the documents of known ids; one that cannot be read just now is refused."""
        known = self._done.known
        if not known:
            return
        try:
            texts = self._stored.shown({task_id: value for task_id, (_, value) in known.items()})
        except StoreError as exc:
            self._done.refused.update(dict.fromkeys(known, exc))
            known.clear()
            return
        for task_id in list(known):
            text = texts.get(task_id)
            if text is None:
                del known[task_id]
                self._done.refused[task_id] = StoreError("the task with this id has just been forgotten")
            else:
                known[task_id] = (facts_of(text).digest, text)
