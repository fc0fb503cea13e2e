"""What ``purgeline debug`` shows: tables, and stacks below them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engine.cli.cells import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.cli.screen import Output
    from engine.client.bodies import Document

THREAD_COLUMNS = ("worker", "thread_id", "thread", "state", "cpu_s", "waits_for")
GC_COLUMNS = (
    *("worker", "generation", "threshold", "passes", "collected"),
    *("seen", "p50_ms", "p99_ms", "max_ms", "sum_ms"),
)
LAG_COLUMNS = ("worker", "loop", "count", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
SAMPLED_COLUMNS = (
    *("worker", "thread_id", "thread", "samples", "cpu_s", "works_s", "held_up_s", "selects_s", "waits_s"),
)
HEAP_COLUMNS = ("worker", "type", "count", "bytes", "count_grown", "bytes_grown")
ALLOCATED_COLUMNS = ("worker", "place", "count", "bytes")
SUBTASK_COLUMNS = (
    *("worker", "node", "operation", "node_state", "total", "acked", "failed", "cancelled"),
    *("blocked", "queued", "sent", "retrying", "delayed"),
)
TARGET_COLUMNS = ("node", "target", "state", "attempts", "next_try_s", "waits_for")
ROW_COLUMNS = (
    "node",
    "node_state",
    "delayed",
    "rows",
    "first_place",
    "queue",
    "behind",
    "operation",
    "target",
    "next_try_s",
)
_MIB = 1 << 20


def threads(document: Document, out: Output) -> None:
    """Show a table of threads, then their stacks."""
    rows = [{**row, "thread": row["name"]} for row in _rows(document, "threads")]
    out.documents(rows, THREAD_COLUMNS)
    for row in rows:
        title = f"worker {row['worker']}, thread {row['thread_id']} {row['name']} {row['state']}"
        out.text(_block(title, row["stack"]))


def tasks(document: Document, out: Output) -> None:
    """Show the places where tasks wait, most tasks first."""
    for row in _rows(document, "groups"):
        what = f", waiting for {row['waits_for']}" if row["waits_for"] else ""
        names = f" ({', '.join(row['names'])})" if row["count"] <= len(row["names"]) else ""
        out.text(
            _block(f"worker {row['worker']}: {_counted(row['count'], 'task')}{what}{names}", row["stack"])
        )


def gc(document: Document, out: Output) -> None:
    """Show a table of generations."""
    rows = [
        {**row, **row["pauses"], "seen": row["pauses"]["count"]} for row in _rows(document, "generations")
    ]
    out.documents(rows, GC_COLUMNS)


def gc_pass(document: Document) -> str:
    """Return the line of one pass."""
    clock = _clock(float(document["at"]))
    young = " ".join(map(str, document["young"]))
    return (
        clean(
            f"{clock} worker {document['worker']} gc generation {document['generation']} "
            f"pause {document['pause_ms']} ms, {document['collected']} collected, "
            f"{document['uncollectable']} uncollectable, counters {young}, "
            f"rss {document['rss_bytes'] // _MIB} MiB"
        )
        + "\n"
    )


def loop(document: Document, out: Output) -> None:
    """Show a table of lags, then what was slow."""
    rows = [{**worker["lag"], **worker} for worker in document["workers"]]
    out.documents(rows, LAG_COLUMNS)
    for worker in document["workers"]:
        for slow in worker["slow"]:
            title = (
                f"worker {worker['worker']}: {_counted(slow['count'], 'time')} over "
                f"{worker['threshold_ms']:g} ms, the longest {slow['longest_ms']:g} ms"
            )
            out.text(_block(title, slow["stack"]))
        if left_out := worker["slow_left_out"]:
            out.notice(f"worker {worker['worker']}: {left_out} slow callbacks more, at other places")


def profile(document: Document, out: Output) -> None:
    """Show a table of threads, and what the profile cost."""
    out.documents([{**row, "thread": row["name"]} for row in _rows(document, "threads")], SAMPLED_COLUMNS)
    for worker in document["workers"]:
        share = 100 * worker["cost_s"] / max(worker["seconds"], 0.001)
        out.notice(
            f"worker {worker['worker']}: {worker['samples']} samples in {worker['seconds']:g} s, "
            f"{worker['missed']} missed; the sampler used {share:.1f} % of a core, and waited for the "
            f"interpreter for {worker['lag']['p50_ms']:g} ms (99th percentile {worker['lag']['p99_ms']:g})"
        )
        if left_out := worker["left_out"]:
            out.notice(f"worker {worker['worker']}: {left_out} samples more are of other stacks")


def heap(document: Document, out: Output) -> None:
    """Show a table of types, or of the lines of a trace."""
    out.documents(list(_rows(document, "types")), HEAP_COLUMNS)
    for worker in document["workers"]:
        if trace := worker["trace"]:
            lines = [{**line, "worker": worker["worker"]} for line in trace["lines"]]
            out.documents(lines, ALLOCATED_COLUMNS)
            full = ", ended early by its size" if trace["is_full"] else ""
            out.notice(
                f"worker {worker['worker']}: traced for {trace['seconds']:g} s{full}: {trace['blocks']} "
                f"blocks of {trace['bytes'] // 1024} KiB are still there; the trace took "
                f"{trace['own_bytes'] // 1024} KiB, and was read in a pause of {trace['pause_ms']:g} ms"
            )
        else:
            out.notice(
                f"worker {worker['worker']}: {worker['objects']} objects of {worker['bytes'] // _MIB} MiB, "
                f"the process has {worker['rss_bytes'] // _MIB} MiB; the look took {worker['walk_s']:.1f} s, "
                f"at most {worker['longest_turn_ms']:g} ms of the loop at once"
            )


def wire(document: Document, out: Output) -> None:
    """Show the exchanges, each with what was sent and what came."""
    for worker in document["workers"]:
        for one in worker["exchanges"]:
            at = "before the look" if one["sent_at"] is None else _clock(float(one["sent_at"]))
            took = "" if one["took_ms"] is None else f" after {one['took_ms']:g} ms"
            end = f"{one['status']}{took}" if one["status"] else "no answer"
            what = f"{at} worker {worker['worker']} connection {one['connection']} {one['operation']}: {end}"
            lines = [f"> {line}" for line in one["request"]] + [f"< {line}" for line in one["answer"]]
            if one["body_bytes"]:
                lines.append(f"< ({_counted(one['body_bytes'], 'byte')} of body) {one['body']}".rstrip())
            out.text(_block(what, [*lines, *([f"! {one['fault']}"] if one["fault"] else [])]))
        last = f"; its last error: {worker['last_error']}" if worker["last_error"] else ""
        out.notice(
            f"worker {worker['worker']}: {_counted(len(worker['exchanges']), 'exchange')} on "
            f"{_counted(worker['connections'], 'connection')}; {worker['node']} is {worker['state']}{last}"
        )


def task(document: Document, out: Output) -> None:
    """Show where a task is, then its nodes, its targets and its rows, and what it waits for."""
    for worker in document["workers"]:
        told = worker["document"]
        if told is not None:
            engine = {"engine": worker["engine"]} if worker["engine"] else {}
            names = ("task_id", "state", "total", "counter", "failed", "delayed", "cancelled")
            place = {"worker": worker["worker"], "place": worker["place"], **engine}
            out.mapping({**place, **{name: told[name] for name in names}})
            out.documents(
                [{**row, "worker": worker["worker"]} for row in worker["subtasks"]], SUBTASK_COLUMNS
            )
            targets = [{**one, "node": row["node"]} for row in worker["subtasks"] for one in row["targets"]]
            out.documents(targets, TARGET_COLUMNS)
            out.documents(worker["rows"], ROW_COLUMNS)
        elif len(document["workers"]) == 1:
            out.notice(f"worker {worker['worker']} does not have it; without --worker all are asked")
        for sentence in worker["why"]:
            out.sentence(f"why: {sentence}")


def _clock(at: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def _rows(document: Document, key: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of all workers, each with the worker that it is of."""
    for worker in document["workers"]:
        for row in worker[key]:
            yield {**row, "worker": worker["worker"]}


def _block(title: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in ("", clean(title), *(f"  {clean(line)}" for line in lines)))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
