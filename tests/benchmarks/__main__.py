"""``./inv bench``: how fast this is, as ratios to what one would use instead, in one run."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from tests.benchmarks import (
    report,
    rows_caches,
    rows_canaries,
    rows_drain,
    rows_history,
    rows_htcp,
    rows_intake,
    rows_latency,
    rows_others,
    rows_proof,
    rows_starts,
    rows_tree,
)
from tests.benchmarks.figures import Figure
from tests.benchmarks.harness import Bench, bench
from tests.benchmarks.peering import NO_GO, go_version, peers_python

ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "intake": rows_intake.intake,
    "intake-batch": rows_intake.intake_batch,
    "door": rows_intake.door,
    "htcp": rows_htcp.htcp,
    "fanout": rows_caches.fanout,
    "end-to-end": rows_caches.end_to_end,
    "latency": rows_latency.latency,
    "latency-loaded": rows_latency.latency_loaded,
    "drain": rows_drain.drain,
    "logs": rows_others.logs,
    "memory": rows_caches.memory,
    "workers": rows_intake.workers,
    "redis": rows_others.redis,
    "canaries": rows_canaries.canaries,
    "history-costs": rows_history.history_costs,
    "history-questions": rows_history.history_questions,
    "fresh": rows_proof.fresh,
    "verify-costs": rows_proof.verify_costs,
    "reload": rows_latency.reload,
    "starts": rows_starts.starts,
    "tree": rows_tree.tree,
}  #: memory brings growth along; what is in `APART` is measured when it is asked for
APART = {"tree"}


def main(argv: Sequence[str]) -> int:
    """Measure, print and write; the exit code is 1 when a row failed, not when a target is missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*ROWS], help="only this row; may be repeated")
    parser.add_argument(
        "--quick", action="store_true", help="one short round each: whether it works, no figures"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="show what changed since another run"
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where figures go (bench.json)")
    args = parser.parse_args(argv)
    try:
        before = report.read(args.compare) if args.compare else None
    except ValueError as exc:
        parser.error(str(exc))
    peers_python()  # made here, and no row waits for it
    uvloop.install()
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(report.environment())
    figures: list[Figure] = []
    failed: list[str] = []
    began = time.monotonic()
    with bench(is_quick=args.quick) as made:
        console.print(f"peers: .venv-bench; {go_version() or NO_GO}")
        for name in args.only or [name for name in ROWS if name not in APART]:
            row_began = time.monotonic()
            try:
                for figure in ROWS[name](made):
                    figure.compiled = made.compiled
                    figures.append(figure)
            except Exception as exc:  # noqa: BLE001 - the other rows are worth having
                failed.append(name)
                console.print(f"{name}: {type(exc).__name__}: {exc}", style="red", markup=False)
            print(f"  {name}: {time.monotonic() - row_began:.0f} s", file=sys.stderr, flush=True)
    report.table(figures, console)
    report.write(figures, args.out)
    drawn = report.chart(args.out) if figures else None
    missed = [f"{one.name} ({one.case})" for one in figures if one.ok is False]
    console.print(f"\n{time.monotonic() - began:.0f} s; {args.out}{f', {drawn}' if drawn else ''}")
    console.print(report.form(figures))
    console.print(f"below target: {', '.join(missed) or 'nothing'}")
    if before is not None:
        report.compare(figures, before, console)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
