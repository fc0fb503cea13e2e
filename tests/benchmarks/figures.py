"""What a benchmark says: a figure, and the sides that it is made of. Pure."""

import statistics

import msgspec


class Figure(msgspec.Struct):
    """One line of the table, and one object of ``bench.json``.

    ``ratio`` is ours to the peer's, so that more is better; ``ok`` is None where there is no target. CPU
    seconds and bytes are of all rounds together, and of the engine's side.
    """

    name: str
    case: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    peer_cpu_s: float | None = None
    peer_peak_rss_bytes: int | None = None
    spread: str = ""  #: the smallest and the largest value
    note: str = ""
    compiled: bool | None = None  #: whether the hot modules of the engine were; None: no engine ran

    def key(self) -> tuple[str, str]:
        """Return what it is compared by."""
        return self.name, self.case


class Side(msgspec.Struct):
    """What one side did in all rounds."""

    values: list[float] = []
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    errors: int = 0
    done: float = 0.0  #: units of work in all rounds, where somebody counts them

    @property
    def cpu_us(self) -> float:
        """CPU time of a unit, in microseconds."""
        return self.cpu_s / self.done * 1e6

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{short(min(self.values))}-{short(max(self.values))}"


def beside(
    name: str, case: str, unit: str, ours: Side, peer: str, theirs: Side, *, least: float | None = None
) -> Figure:
    """Return the figure of two sides.

    Args:
        name: of the row.
        case: of the figure.
        unit: of the values.
        ours: the engine's side.
        peer: what the other side is called.
        theirs: its side.
        least: times the peer, the target; None: there is none.
    """
    ratio = ours.median / theirs.median
    return Figure(
        name,
        case,
        ours.median,
        unit,
        peer,
        theirs.median,
        ratio,
        "" if least is None else f">= {least:g}x",
        None if least is None else ratio >= least and not ours.errors,
        ours.cpu_s,
        ours.peak_rss_bytes,
        theirs.cpu_s,
        theirs.peak_rss_bytes,
        ours.spread,
        f"errors {ours.errors} / {theirs.errors}" if ours.errors or theirs.errors else "",
    )


def cpu_of_unit(name: str, case: str, unit: str, side: Side, *, most_us: float) -> Figure:
    """Return what CPU time a unit of work cost the engine, its saver thread included."""
    return Figure(
        name,
        case,
        side.cpu_us,
        unit,
        target=f"<= {most_us:g} us",
        ok=side.cpu_us <= most_us,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
    )


def short(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percentiles(took_s: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    ordered = sorted(took_s)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.99))
    return p50, p99
