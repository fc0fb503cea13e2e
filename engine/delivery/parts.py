"""The parts of this room, put together: for the assembly of an engine, and for test rigs."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.delivery.absent import PlanNodes
from engine.delivery.dispatch import Dispatch
from engine.delivery.endings import Endings
from engine.delivery.full_queues import FullQueues
from engine.delivery.gone import GoneNodes
from engine.delivery.handed_rows import HandedRows
from engine.delivery.host_rows import HostRows
from engine.delivery.journal_rows import JournalRows
from engine.delivery.kept_rows import KeptRows
from engine.delivery.late import LateResults
from engine.delivery.load import Load
from engine.delivery.node_events import NodeEvents
from engine.delivery.oldest_pages import OldestPages
from engine.delivery.parking import Parking
from engine.delivery.pauses import Pauses
from engine.delivery.queues import DelayQueues
from engine.delivery.reasons import Reasons
from engine.delivery.redelivery import Redelivery
from engine.delivery.return_gate import ReturnGate
from engine.delivery.sweep import Sweep
from engine.delivery.touched import Touched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.base.clock import SteadyClock
    from engine.base.timer import Timer
    from engine.nodes.node import Node
    from engine.observe.audit import Audit
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.region import RegionMap


@dataclass(frozen=True, slots=True)
class Delivery:
    """What others use of this room."""

    load: Load
    journal_rows: JournalRows
    queues: DelayQueues
    full: FullQueues
    endings: Endings
    late: LateResults
    redelivery: Redelivery
    host_rows: HostRows
    kept: KeptRows
    gate: ReturnGate
    sweep: Sweep
    dispatch: Dispatch
    events: NodeEvents
    gone: GoneNodes
    pauses: Pauses
    touched: Touched | None  #: None: no other engine has the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this room stands on."""

    regions: RegionMap  #: all tasks in memory
    nodes: Mapping[str, Node]  #: by name; filled before the first task is submitted
    savers: SaverPool  #: filled before the first task is submitted
    reader: StoreReader
    dues: Timer  #: fires at the due times of tasks
    timer: Timer  #: fires at everything else
    clock: SteadyClock  #: goes on over restarts; the one of a shared store
    stats: Stats
    audit: Audit
    on_alert: Callable[..., None]  #: told what an operator should know: key, level, message, facts by name


def build_delivery(
    around: Surroundings,
    *,
    ttl_s: float = 0,
    rows_max: int = sys.maxsize,
    gone_after_s: float = 3600,
    is_shared: bool = False,
) -> Delivery:
    """Return the parts, wired together; the loop must be running.

    Args:
        around: nodes and savers in it may come later, because they tell these parts what comes of tasks.
        ttl_s: older rows of delay queues fail unsent; 0: none does.
        rows_max: rows of one node; see `FullQueues`.
        gone_after_s: rows of nodes that are not configured any more fail after so long.
        is_shared: other engines work with the same store.
    """
    regions, nodes, savers, reader = around.regions, around.nodes, around.savers, around.reader
    load = Load(asyncio.get_running_loop())
    touched = Touched() if is_shared else None
    full = FullQueues(nodes, rows_max, around.on_alert)
    queues = DelayQueues(savers, reader, full, now=around.clock.now)
    kept = KeptRows()
    parking = Parking(queues, around.stats, kept, now=around.clock.now, is_shared=is_shared)
    endings = _make_endings(around, load, parking, touched)
    late = LateResults(regions, queues, endings, around.stats, reader=reader, is_shared=is_shared)
    reasons = Reasons(regions, savers)
    gate = ReturnGate(kept)
    redelivery = _make_redelivery(around, queues, late, gate=gate, reasons=reasons, ttl_s=ttl_s)
    gone = _make_gone(
        around, queues, late, redelivery, reasons=reasons, gone_after_s=gone_after_s, is_shared=is_shared
    )
    return Delivery(
        load=load,
        journal_rows=endings.journal_rows,
        queues=queues,
        full=full,
        endings=endings,
        late=late,
        redelivery=redelivery,
        host_rows=HostRows(redelivery, queues, full, nodes, savers, reader=reader),
        kept=kept,
        gate=gate,
        sweep=_make_sweep(around, queues, late, redelivery, ttl_s),
        dispatch=_make_dispatch(around, endings, parking, gone, touched, load=load),
        events=NodeEvents(redelivery, OldestPages(nodes, savers, reader), around.stats, around.on_alert),
        gone=gone,
        pauses=Pauses(nodes, savers, reader, around.on_alert, reasons),
        touched=touched,
    )


def _make_endings(around: Surroundings, load: Load, parking: Parking, touched: Touched | None) -> Endings:
    return Endings(
        around.regions,
        around.dues,
        around.savers,
        load=load,
        journal_rows=JournalRows(around.savers.of),
        parking=parking,
        stats=around.stats,
        audit=around.audit,
        touched=touched,
    )


def _make_redelivery(
    around: Surroundings,
    queues: DelayQueues,
    late: LateResults,
    *,
    gate: ReturnGate,
    reasons: Reasons,
    ttl_s: float,
) -> Redelivery:
    return Redelivery(
        queues,
        late,
        around.nodes,
        around.savers,
        around.reader,
        gate=gate,
        reasons=reasons,
        handed=HandedRows(around.regions, around.reader),
        on_alert=around.on_alert,
        now=around.clock.now,
        ttl_s=ttl_s,
    )


def _make_sweep(
    around: Surroundings, queues: DelayQueues, late: LateResults, redelivery: Redelivery, ttl_s: float
) -> Sweep:
    nodes, savers, reader, now = around.nodes, around.savers, around.reader, around.clock.now
    return Sweep(redelivery, late, nodes, savers, reader, queues=queues, now=now, ttl_s=ttl_s)


def _make_dispatch(
    around: Surroundings,
    endings: Endings,
    parking: Parking,
    gone: GoneNodes,
    touched: Touched | None,
    *,
    load: Load,
) -> Dispatch:
    return Dispatch(
        asyncio.get_running_loop(),
        around.nodes,
        around.timer,
        around.stats,
        endings=endings,
        parking=parking,
        plan_nodes=PlanNodes(around.nodes, gone.why),
        touched=touched,
        load=load,
        savers=around.savers,
    )


def _make_gone(
    around: Surroundings,
    queues: DelayQueues,
    late: LateResults,
    redelivery: Redelivery,
    *,
    reasons: Reasons,
    gone_after_s: float,
    is_shared: bool,
) -> GoneNodes:
    return GoneNodes(
        around.nodes,
        queues,
        late,
        around.savers,
        around.reader,
        in_between=redelivery.in_between,
        on_released=redelivery.deliver_released,
        reasons=reasons,
        on_alert=around.on_alert,
        gone_after_s=gone_after_s,
        is_shared=is_shared,
    )
