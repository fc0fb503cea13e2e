"""The parts of this room, put together: for the assembly of an engine, and for test rigs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.delivery.dispatch import Dispatch
from engine.delivery.endings import Endings
from engine.delivery.journal_rows import JournalRows
from engine.delivery.late import LateResults
from engine.delivery.load import Load
from engine.delivery.node_events import NodeEvents
from engine.delivery.parking import Parking
from engine.delivery.queues import DelayQueues
from engine.delivery.redelivery import Redelivery
from engine.delivery.touched import Touched

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from engine.base.timer import Timer
    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.region import RegionMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What others use of this room."""

    load: Load
    journal_rows: JournalRows
    queues: DelayQueues
    endings: Endings
    late: LateResults
    redelivery: Redelivery
    dispatch: Dispatch
    events: NodeEvents
    touched: Touched | None  #: None: no other engine has the store


def build_delivery(
    loop: asyncio.AbstractEventLoop,
    *,
    regions: RegionMap,
    nodes: Mapping[str, Node],
    savers: SaverPool,
    reader: StoreReader,
    dues: Timer,
    timer: Timer,
    stats: Stats,
    on_alert: Callable[..., None],
    attempts_max: int,
    ttl_s: float = 0,
    is_shared: bool = False,
) -> Delivery:
    """Return the parts, wired together.

    Args:
        loop: of the engine.
        regions: all tasks in memory.
        nodes: filled before the first task is submitted, because nodes tell these parts what comes of it.
        savers: filled before the first task is submitted, for the same reason.
        reader: reads the store.
        dues: fires at the due times of tasks.
        timer: fires at everything else.
        stats: the engine's counters.
        on_alert: told what an operator should know: key, level, message, and facts by name.
        attempts_max: attempts that a request has.
        ttl_s: older rows of delay queues in a shared store are settled unsent; 0: none.
        is_shared: other engines work with the same store.
    """
    load = Load(loop)
    touched = Touched() if is_shared else None
    journal_rows = JournalRows(savers.of)
    queues = DelayQueues(savers, reader)
    parking = Parking(queues, stats, is_shared=is_shared)
    endings = Endings(
        regions,
        dues,
        savers,
        load=load,
        journal_rows=journal_rows,
        parking=parking,
        stats=stats,
        touched=touched,
    )
    late = LateResults(regions, queues, endings, stats, is_shared=is_shared)
    redelivery = Redelivery(queues, late, nodes, savers, reader, on_alert=on_alert, ttl_s=ttl_s)
    dispatch = Dispatch(
        loop,
        nodes,
        timer,
        stats,
        endings=endings,
        parking=parking,
        touched=touched,
        attempts_max=attempts_max,
    )
    return Delivery(
        load=load,
        journal_rows=journal_rows,
        queues=queues,
        endings=endings,
        late=late,
        redelivery=redelivery,
        dispatch=dispatch,
        events=NodeEvents(redelivery, stats, on_alert),
        touched=touched,
    )
