"""Draws: ``chart.py ratios|soak|growth FILE.json OUT``, as SVG or PNG."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "purgeline"


def ratios(found: list[dict], out: Path) -> None:
    """Draw each figure's ratio to its peer."""
    rows = [one for one in found if one.get("ratio")][::-1]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.2))
    colours = ["#7a7a7a" if one["ok"] is None else "#2a7f4f" if one["ok"] else "#b3541e" for one in rows]
    axes.barh(
        [f"{one['name']}: {one['case']}" for one in rows], [one["ratio"] for one in rows], color=colours
    )
    for place, one in enumerate(rows):
        ratio = one["ratio"]
        text = f" {ratio:.0f}x" if ratio >= 100 else f" {ratio:.2g}x"
        text += f" {one['peer']}" + (f" (target {one['target']})" if one["target"] else "")
        axes.text(one["ratio"], place, text, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=max(one["ratio"] for one in rows) * 20)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times the peer, in the same run")
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    save(figure, out)


def save(figure: plt.Figure, out: Path) -> None:
    """Write a chart, the same bytes for the same figures."""
    names = ("Date", "Creator") if out.suffix == ".svg" else ("Software",)
    figure.savefig(out, metadata=dict.fromkeys(names))


def soak(found: dict, out: Path) -> None:
    """Draw what a soak saw over time."""
    samples = found["samples"]
    minutes = [one["at_s"] / 60 for one in samples]
    panels = [
        ("memory, MiB", [("rss_mib", "resident")]),
        ("descriptors, threads", [("descriptors", "descriptors"), ("threads", "threads")]),
        ("POST latency, ms", [("p50_ms", "p50"), ("p99_ms", "p99")]),
        ("tasks/s", [("tasks_s", "accepted")]),
        ("delayed subtasks", [("delayed", "delayed")]),
    ]
    figure, all_axes = plt.subplots(len(panels), 1, figsize=(9, 10), sharex=True)
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        for key, label in lines:
            axes.plot(minutes, [one[key] for one in samples], linewidth=1, label=label)
        for event in found["events"]:
            axes.axvline(event["at_s"] / 60, color="#b3541e", linewidth=0.4, alpha=0.5)
        axes.set_ylabel(title, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, loc="upper right")
        axes.tick_params(labelsize=8)
    all_axes[-1].set_xlabel("minutes; a line where a node is restarted")
    figure.tight_layout()
    save(figure, out)


def growth(found: dict, out: Path) -> None:
    """Draw what a unit costs by size, and below it memory."""
    panels = [
        ("nodes", "CPU of a purge, µs"),
        ("subtasks", "CPU of a purge, µs"),
        ("workers", "CPU of a task of two URLs, µs"),
    ]
    figure, all_axes = plt.subplots(2, len(panels), figsize=(11, 6), sharex="col")
    for (above, below), (name, title) in zip(all_axes.T, panels, strict=True):
        points = found.get(name) or []
        above.set_title(title, fontsize=9)
        if not points:  # it failed, or was left out
            continue
        sizes = [one["size"] for one in points]
        above.plot(sizes, [one["cpu_us"] for one in points], marker="o", color="#2a7f4f")
        below.plot(sizes, [one["rss_bytes"] / 2**20 for one in points], marker="o", color="#7a7a7a")
        for one in points:
            above.annotate(f"{one['cpu_us']:.3g}", (one["size"], one["cpu_us"]), fontsize=7, va="bottom")
        above.set_xscale("log", base=2 if name == "workers" else 10)
        if max(one["cpu_us"] for one in points) > 20 * min(one["cpu_us"] for one in points):
            above.set_yscale("log")
        else:
            above.set_ylim(bottom=0)
        below.set_ylim(bottom=0)
        below.set_ylabel("memory, MiB", fontsize=8)
        below.set_xlabel(f"live {name}" if name == "subtasks" else name, fontsize=9)
        for axes in (above, below):
            axes.tick_params(labelsize=8)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.tight_layout()
    save(figure, out)


if __name__ == "__main__":
    kind, source, target = sys.argv[1:]
    {"ratios": ratios, "soak": soak, "growth": growth}[kind](
        json.loads(Path(source).read_text()), Path(target)
    )
