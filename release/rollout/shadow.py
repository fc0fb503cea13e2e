"""The shadow gate: whether a new version answers recorded traffic as the version that serves does.

Both are started on the first host that a deploy changes, beside the engine there (`release.agent.shadow`);
here is what goes before and after that: the recording is read and cut to what is played, and what the host
found is held against the settings.

What counts as slower: what new to old is at least at p50 and at p90, by the scatter of the slices, and the
CPU time of all requests. Slices are played turn about, so what disturbs a busy machine hits both; a disturbed
slice does not move the middle; CPU time hardly grows when others want the cores. Twice as slow shows in one.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from engine.errors import RecordingError
from engine.recordings import gor
from engine.recordings.messages import request_of
from release.errors import SettingsError
from release.rollout.exits import GateError
from release.rollout.plan import SHADOW, with_shadow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from release.hosts.remote import Fleet, Outcome
    from release.rollout.plan import HostState, Plan
    from release.settings import Settings

SLICE_MIN: Final = 50  #: requests; a short recording is played again and again
READY_TIMES: Final = 3  #: two start at once, and leave the CPU to what serves
START_SLACK_S: Final = 60.0  #: for the recording's way to the host, and the end
SHOWN_MAX: Final = 6  #: examples of what differs
LEFT_S: Final = 86400.0  #: so old is nothing that a deploy under way needs
MEASURED: Final = ("latency p50", "latency p90", "CPU time")  #: without each of them a version may be slow
LEVEL: Final = 1  #: of compression, for the way to the host


class Recorded(NamedTuple):
    """The part of a recording that is played."""

    name: str  #: as it was given
    path: Path  #: a file of this machine's own
    requests: int  #: in it


class Finding(NamedTuple):
    """What a comparison came to."""

    lines: list[str]  #: for a person
    why_not: str  #: what is beyond the settings; empty: nothing


@contextlib.contextmanager
def recorded(name: str, settings: Settings) -> Iterator[Recorded | None]:
    """Give what is played of a recording; None without one.

    Raises:
        SettingsError: it is not there, is damaged, or holds no request.
    """
    if not name:
        yield None
        return
    kept = Path(settings.cache_dir).expanduser() / "shadow"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tidy(kept)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        draft = Path(folder) / "draft"
        try:
            count = _cut(Path(name).expanduser(), draft, settings.shadow_requests)
        except RecordingError as exc:
            raise SettingsError(f"--shadow: {exc}") from exc
        if not count:
            raise SettingsError(f"--shadow: {name}: there is no request in it")
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        yield Recorded(name, draft.rename(Path(folder) / f"shadow-{digest[:16]}.gor.gz"), count)


def _tidy(kept: Path) -> None:
    """Remove what controllers that were killed have left."""
    for folder in kept.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _cut(source: Path, target: Path, requests_max: int) -> int:
    """Write the first requests, and what they were answered; return how many there are."""
    wanted: set[str] = set()
    beyond = 0
    with target.open("xb") as file, gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        for entry in gor.read(source):
            if entry.kind == gor.REQUEST:
                if len(wanted) == requests_max:
                    beyond += 1
                    if beyond > requests_max:
                        break  # the answers to what is played stand before
                    continue
                request_of(entry.message)  # is one
                wanted.add(entry.id)
            elif entry.id not in wanted:
                continue
            packed.write(gor.encode(entry))
    return len(wanted)


def gated(plan: Plan, states: dict[str, HostState]) -> Plan:
    """Return the plan with the comparison in it.

    Raises:
        GateError: there is nothing that the new version could be compared with.
    """
    plan = with_shadow(plan)
    for host in plan.hosts:
        if SHADOW in host.steps and not (states[host.host].running and host.was):
            raise GateError(
                f"nothing was changed: --shadow compares with the version that serves, and {host.host} has "
                "none; deploy the first one without it"
            )
    return plan


def compared(fleet: Fleet, request: dict[str, Any], recording: Recorded, settings: Settings) -> Outcome:
    """Have a host compare two versions; the outcome is ok where they are alike within the settings.

    Args:
        fleet: the hosts.
        request: ``host``, ``version`` and ``was``, and who asks.
        recording: that is played.
        settings: what may differ.
    """
    host = request["host"]
    parts = parts_of(recording.requests, settings.shadow_slices)
    asked = {
        **{key: value for key, value in request.items() if key != "host"},
        **parts._asdict(),
        "speed": settings.shadow_speed,
        "ready_s": READY_TIMES * settings.reload_timeout_s,
        "timeout_s": settings.shadow_timeout_s,
    }
    limit_s = settings.shadow_timeout_s + READY_TIMES * settings.reload_timeout_s + START_SLACK_S
    return fleet.run("shadow", asked, hosts=[host], files={host: recording.path}, timeout_s=limit_s)[host]


class Parts(NamedTuple):
    """How a recording is played: again from its beginning until all slices are equal."""

    requests: int  #: of all slices
    slice: int  #: requests of one
    slices: int


def parts_of(requests: int, slices: int) -> Parts:
    """Return how *requests* are played in *slices*: each at least once, none of the slices too small."""
    size = max(SLICE_MIN, -(-requests // slices))
    return Parts(slices * size, size, slices)


def judged(outcome: Outcome, names: tuple[str, str], settings: Settings) -> tuple[Outcome, list[str]]:
    """Hold what a host found against the settings; return its outcome, and lines for a person.

    Args:
        outcome: of `compared`, ok.
        names: the version that serves, and the new one.
        settings: what may differ.
    """
    finding = found(outcome.answer, names, settings)
    if not finding.why_not:
        return outcome, finding.lines
    return (
        msgspec.structs.replace(outcome, ok=False, kind="differs", reason=finding.why_not, log=finding.lines),
        [],
    )


def found(answer: dict[str, Any], names: tuple[str, str], settings: Settings) -> Finding:
    """Return what an answer of a host comes to."""
    report = answer.get("report") or {}
    compared_count = int(report.get("compared") or 0)
    if not compared_count:
        return Finding([], "nothing was compared")
    measures = _measures(report, answer.get("cpu_s") or {}, settings)
    beyond = [measure for measure in measures if measure.is_beyond]
    why_not = "; ".join(f"{measure.words} ({measure.limit} allowed)" for measure in beyond)
    if why_not:
        why_not = f"{names[1]} differs from {names[0]}: {why_not}"
    why_not = why_not or _unseen(report, measures)
    return Finding([*_table(names, measures), *_as_recorded(report, names), *_examples(report)], why_not)


def _unseen(report: dict[str, Any], measures: list[Measure]) -> str:
    """Say why a comparison shows nothing of the new version, however alike the two are; empty: it does."""
    unanswered = {side: int(report[side].get("unanswered") or 0) for side in ("beside", "engine")}
    if any(unanswered.values()):
        return (
            f"nothing was shown: {unanswered['beside']} requests to the version that serves and "
            f"{unanswered['engine']} to the new one had no answer"
        )
    if not report.get("succeeded", 1):
        return (
            "nothing was shown: no request was answered below 400; is it a recording of this engine's sites?"
        )
    if report.get("recorded_tasks") and not report["results_compared"]:
        return (
            f"nothing was shown: {report['recorded_tasks']} tasks are in the recording, none was made of them"
        )
    missing = [name for name in MEASURED if name not in {measure.name for measure in measures}]
    return f"nothing was shown: there is no measure of {', '.join(missing)}" if missing else ""


class Measure(NamedTuple):
    """One line of the table."""

    name: str
    old: str
    new: str
    change: str
    limit: str
    is_beyond: bool
    words: str  #: for the reason of a refusal


def _measures(report: dict[str, Any], cpu_s: dict[str, float], settings: Settings) -> list[Measure]:
    measures = [
        _share("status", report["different"], report["compared"], settings.shadow_status_share, "requests"),
        _share(
            "result",
            report["results_different"],
            report["results_compared"],
            settings.shadow_result_share,
            "tasks",
        ),
    ]
    for each, ratio in (report.get("latency_ratio") or {}).items():
        old, new = (
            f"{(report[side].get('latency') or {}).get(f'{each}_ms', 0):.2f} ms"
            for side in ("beside", "engine")
        )
        measures.append(_latency(each, old, new, ratio, settings.shadow_latency_ratio))
    if cpu_s.get("beside"):
        old, new = (f"{cpu_s[side] / report[side]['sent'] * 1000:.2f} ms" for side in ("beside", "engine"))
        ratio, limit = cpu_s["engine"] / cpu_s["beside"], settings.shadow_cpu_ratio
        words = f"{ratio:.2f} times the CPU time"
        measures.append(
            Measure("CPU time", old, new, f"x {ratio:.2f}", f"x {limit:.2f}", ratio > limit, words)
        )
    return measures


def _share(what: str, different: int, of: int, limit: float, noun: str) -> Measure:
    share = different / of if of else 0.0
    words = f"another {what} for {different} of {of} {noun}, {share:.2%}"
    return Measure(
        f"other {what}", "", f"{different} of {of}", f"{share:.2%}", f"{limit:.2%}", share > limit, words
    )


def _latency(each: str, old: str, new: str, ratio: dict[str, float], limit: float) -> Measure:
    least = ratio["least"]
    words = f"latency {each} at least {least:.2f} times as long"
    change = f"x {ratio['median']:.2f}, at least {least:.2f}"
    return Measure(f"latency {each}", old, new, change, f"x {limit:.2f}", least > limit, words)


def _table(names: tuple[str, str], measures: list[Measure]) -> list[str]:
    rows = [("per request", *names, "", "allowed", "")]
    rows += [
        (each.name, each.old, each.new, each.change, each.limit, "BEYOND" if each.is_beyond else "")
        for each in measures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)),
                row[5],
            ]
        ).rstrip()
        for row in rows
    ]


def _as_recorded(report: dict[str, Any], names: tuple[str, str]) -> list[str]:
    """Say how many requests each version answered as they were when they were recorded."""
    told = []
    for side, name in zip(("beside", "engine"), names, strict=True):
        same, different = report[side]["same"], report[side]["different"]
        if same + different:
            told.append(f"{same} of {same + different} by {name}")
    return [f"answered as recorded: {', '.join(told)}"] if told else []


def _examples(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{change['count']} x {_change(change['beside'], change['engine'])}"
        for change in report["changes"][:SHOWN_MAX]
    ]
    for each in report["differences"][:SHOWN_MAX]:
        detail = f": {each['detail']}" if each["detail"] else ""
        was = f", recorded {each['recorded']}" if each["recorded"] else ""
        change = f"{_change(each['beside'], each['engine'])}{was}"
        lines.append(f"  {each['request']}: {change}{detail}")
    lines += [
        f"  {each['request']}: a task that was {each['beside']} is {each['engine']}"
        for each in report["results"][:SHOWN_MAX]
    ]
    return list(dict.fromkeys(lines))


def _change(before: int, now: int) -> str:
    return f"{_status(before)} became {_status(now)}" if before or now else "no answer of either"


def _status(status: int) -> str:
    return str(status) if status else "no answer"
