"""What a run prints and leaves: a table, ``bench.json``, a chart, and how it compares with another run."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import Figure, short
from tests.benchmarks.harness import HERE
from tests.benchmarks.peering import peers_python

_CHANGE = 0.1  #: of a ratio, before it is called a change


def environment() -> str:
    """Return one line on this machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    programs = []
    for command in (["varnishd", "-V"], ["redis-server", "--version"], ["nginx", "-v"]):
        environ = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
        with contextlib.suppress(FileNotFoundError):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
            programs += (done.stdout + done.stderr).splitlines()[:1]
    kernel = platform.release()
    return f"{os.cpu_count()} x {model}, Linux {kernel}, Python {platform.python_version()}; " + "; ".join(
        programs
    )


def form(figures: Sequence[Figure]) -> str:
    """Return in which form the engines ran whose figures these are."""
    told = {one.compiled for one in figures} - {None}
    if told == {True}:
        return "compiled: true"
    if told == {False}:
        return "compiled: false (./inv build compiles the hot modules)"
    return "compiled: some true, some false" if told else "compiled: no engine ran"


def table(figures: Sequence[Figure], console: Console) -> None:
    """Print all figures."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "case"):
        made.add_column(name, overflow="fold")
    for name in ("value", "peer", "ratio"):
        made.add_column(name, justify="right")
    for name in ("target", "", "CPU s", "peak MiB", "notes"):
        made.add_column(name)
    for one in figures:
        made.add_row(*_row(one))
    console.print(made)


def _row(one: Figure) -> list[str]:
    verdict = "" if one.ok is None else "[green]ok[/]" if one.ok else "[red]below[/]"
    notes = "; ".join(filter(None, (one.peer, one.spread, one.note)))
    return [
        one.name,
        one.case,
        f"{short(one.value)} {one.unit}",
        "" if one.peer_value is None else short(one.peer_value),
        "" if one.ratio is None else f"{short(one.ratio)}x",
        one.target,
        verdict,
        _pair(one.cpu_s, one.peer_cpu_s, 1),
        _pair(one.peak_rss_bytes, one.peer_peak_rss_bytes, 2**20),
        notes,
    ]


def _pair(ours: float | None, theirs: float | None, unit: float) -> str:
    texts = [
        "-" if value is None else f"{value / unit:.1f}" if unit == 1 else f"{value / unit:.0f}"
        for value in (ours, theirs)
    ]
    return "" if ours is None and theirs is None else texts[0] if theirs is None else " / ".join(texts)


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write the list of figures as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(figures)), indent=1) + b"\n")


def read(path: Path) -> list[Figure]:
    """Read the figures of another run.

    Raises:
        ValueError: the file holds none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Figure])
    except (OSError, msgspec.DecodeError) as exc:
        raise ValueError(f"{path}: no figures of a run: {exc}") from exc


def chart(source: Path, kind: str = "ratios") -> Path | None:
    """Draw a chart beside a JSON file; None, and a line that says why, when that cannot be."""
    target = source.with_suffix(".svg")
    if kind == "ratios" and not any(one.ratio for one in read(source)):
        print("no chart: nothing of this run has something to be compared with")
        return None
    try:
        command = [peers_python(), str(HERE / "peers" / "chart.py"), kind, str(source), str(target)]
        subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as exc:
        print(f"no chart: {(exc.stderr or str(exc)).splitlines()[-1]}")
        return None
    return target


def compare(figures: Sequence[Figure], before: Sequence[Figure], console: Console) -> None:
    """Print what changed since another run: by ratio where there is a peer, else by value."""
    old = {one.key(): one for one in before}
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "case", "before", "now", "change"):
        made.add_column(name, justify="left" if name in {"name", "case"} else "right", overflow="fold")
    for one in figures:
        was = old.get(one.key())
        if was is None:
            made.add_row(one.name, one.case, "-", short(one.value), "new")
            continue
        is_ratio = one.ratio is not None and was.ratio is not None
        then, now = (was.ratio, one.ratio) if is_ratio else (was.value, one.value)
        assert then is not None
        assert now is not None
        change = now / then - 1 if then else 0.0
        colour = "" if abs(change) < _CHANGE else "[bold]"
        mark = "x" if is_ratio else ""
        made.add_row(
            one.name, one.case, f"{short(then)}{mark}", f"{short(now)}{mark}", f"{colour}{change:+.0%}"
        )
    console.print(made)
