"""What all doors of this kind share: the triggers, and all that is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.doors.cdni.creating import Creating
from engine.doors.cdni.ending import Ending
from engine.doors.cdni.records import Records
from engine.doors.cdni.sweeping import Sweeping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.api.cancel import CancelTask
    from engine.api.find import FindTask
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.observe.audit import Audit
    from engine.saver.reader import StoreReader
    from engine.store.triggers import Triggers as Store


class Triggers(NamedTuple):
    """The triggers of all clients."""

    records: Records
    creating: Creating
    ending: Ending
    sweeping: Sweeping

    @classmethod
    def of(
        cls,
        admission: Admission,
        find: FindTask,
        cancel: CancelTask,
        store: Store,
        reader: StoreReader,
        *,
        auth: Auth,
        audit: Audit,
        tokens: Sequence[str],
        due_s: float,
        stale_s: float,
        retention_s: float,
        may_sweep: Callable[[], bool],
    ) -> Triggers:
        """Return them for one engine.

        Args:
            admission: takes their tasks.
            find: finds these again, whichever worker has them.
            cancel: cancels them.
            store: keeps the records.
            reader: has threads for it, and for long commands; nobody else waits for those.
            auth: knows the clients' tokens.
            audit: told of tasks that are cancelled.
            tokens: names of those of all clients.
            due_s: so long a trigger may take.
            stale_s: settled ones are kept so long.
            retention_s: settled tasks are kept so long.
            may_sweep: tells whether this worker looks after the triggers of all.
        """
        records = Records(store, reader, find, retention_s=retention_s)
        ending = Ending(records, cancel, auth, audit)
        creating = Creating(admission, records, ending, due_s=due_s)
        sweeping = Sweeping(records, ending, tokens=tokens, stale_s=stale_s, is_ours=may_sweep)
        return cls(records, creating, ending, sweeping)

    async def open(self) -> None:
        """Open what keeps the records, and begin to look after them. Safe to call again.

        Raises:
            StoreError: it cannot be used.
        """
        await self.records.read(self.records.store.open)
        self.sweeping.start()

    async def close(self) -> None:
        """End that. Safe to call again."""
        await self.sweeping.stop()
        self.records.close()
