"""What purges cost: CPU seconds, memory and disk for a million, and a month of them at the price of a core.

The price of a core's hour is the reader's; ``lines_of`` shows the formula with it.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.benchmarks.figures import Side
from tests.benchmarks.harness import Bench, Clock, rss
from tests.benchmarks.rows_caches import hand_in
from tests.rigs.engine_process import EngineProcess, node_table

MONTH_H = 730
MILLION = 1_000_000
MONTHLY = (10, 100, 1_000)  #: millions of purges, which `lines_of` shows the price of


class Cost(msgspec.Struct):
    """Of a million purges at one cache, handed in one way."""

    urls: int  #: of a task
    cpu_s: float  #: of the engine, saver thread included
    disk_bytes: float  #: kept for `history_days`: documents, targets and outcomes
    written_bytes: float  #: handed to the disk on the way: journal, checkpoints, what is kept


class Costs(msgspec.Struct):
    """Of an engine."""

    ways: list[Cost]
    idle_rss_bytes: int  #: of an engine that has just started


def measured(made: Bench) -> Costs:
    """Purge in tasks of one URL and of a hundred."""
    ways, idle = [], 0
    for urls, tasks in ((1, 20_000), (100, 1_000)):
        count = tasks // (10 if made.is_quick else 1)
        with made.cache() as cache, made.engine(node_table(cache, name="edge-1")) as engine:
            idle = idle or rss(engine.pid)
            hand_in(engine, "warm", tasks=20, urls=urls)
            before = _kept(engine)
            written = _written(engine)
            clock, side = Clock(engine.pid), Side()
            hand_in(engine, "c", tasks=count, urls=urls)
            clock.stop(side)
            written = _written(engine) - written
            share = MILLION / (count * urls)
            ways.append(Cost(urls, side.cpu_s * share, (_kept(engine) - before) * share, written * share))
    return Costs(ways, idle)


def _kept(engine: EngineProcess) -> int:
    """Return the bytes of the engine's databases, started anew: nothing stands in their logs alone."""
    engine.stop()
    files = [path for path in (engine.folder / "var").rglob("*") if path.is_file()]
    kept = sum(path.stat().st_blocks * 512 for path in files)
    engine.start()
    return kept


def _written(engine: EngineProcess) -> int:
    text = Path(f"/proc/{engine.pid}/io").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("write_bytes")).split()[1])


def month(cost: Cost, *, millions: float, core_hour: float) -> float:
    """Return the price of the CPU time of so many million purges: CPU s x millions / 3600 x price."""
    return cost.cpu_s * millions / 3600 * core_hour


def lines_of(costs: Costs, *, core_hour: float) -> list[str]:
    """Return the model as lines: what a million costs, and months at that price of a core's hour."""
    lines = [f"an engine that waits: {costs.idle_rss_bytes / 2**20:.0f} MiB"]
    for one in costs.ways:
        lines.append(
            f"a million purges, tasks of {one.urls}: {one.cpu_s:.1f} CPU s, "
            f"{one.disk_bytes / 2**20:,.0f} MiB kept, {one.written_bytes / 2**20:,.0f} MiB written"
        )
        prices = _prices(one, MONTHLY, core_hour)
        lines.append(f"  a month at {core_hour:g} an hour of a core: {prices}")
    lines.append(
        f"  formula: CPU s x millions / 3600 x {core_hour:g}; a core that is kept all month: "
        f"{MONTH_H * core_hour:,.2f}"
    )
    return lines


def _prices(one: Cost, sizes: Sequence[int], core_hour: float) -> str:
    return ", ".join(
        f"{millions:,} million {month(one, millions=millions, core_hour=core_hour):.2f}" for millions in sizes
    )
