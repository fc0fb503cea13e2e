"""What happens in a run: a plan of steps, drawn by hypothesis or from a seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st

HOSTS: Final = ("a.example", "b.example")
URLS: Final = ("http://a.example/x/1", "http://a.example/y", "http://b.example/x/1")
NODES: Final = ("parent-1", "edge-1", "edge-2")
REMOVED: Final = "edge-2"  #: the node that some configurations do not have

FAULTS: Final = frozenset(
    {
        "down",
        "lost",
        "hang",
        "sick",
        "half-sick",
        "slow",
        "cuts",
        "wiped",
        "refuse",
        "refuse-bans",
        "forward",
        "origin-slow",
        "origin-fails",
        "prefetch-beside-purge",
        "cancel",
        "crash",
        "restart",
        "worker-killed",
        "reload",
        "node-removed",
        "driver-changed",
        "pause",
    }
)
"""Kinds of faults that plans draw from. ``lost``: the engine cannot reach a node that visitors reach."""


@dataclass(frozen=True)
class Submit:
    """A client hands in a task; the content of its URLs changes just before, unless *is_unchanged*."""

    action: str
    kind: str
    urls: tuple[int, ...]
    prefetch: bool = False
    soft: bool = False
    nodes: tuple[str, ...] = ()
    rebound_s: float = 0
    on_incapable: str = ""  #: empty: as configured, which is "skip"
    worker: int = 0
    is_unchanged: bool = False


@dataclass(frozen=True)
class Visit:
    """A visitor asks a node for a URL; nobody waits for the answer."""

    node: str
    url: int


@dataclass(frozen=True)
class Fault:
    """Something goes wrong with a node, until a heal; with *is_alone* what was wrong before ends."""

    node: str
    kind: str
    is_alone: bool = False


@dataclass(frozen=True)
class Heal:
    """A node is well again."""

    node: str


@dataclass(frozen=True)
class Pause:
    """An operator has what is for a node wait, or resumes it."""

    node: str
    is_over: bool = False


@dataclass(frozen=True)
class Origin:
    """The origin answers after *latency_s*, or fails; within twice ``prefetch_timeout_s``."""

    latency_s: float
    is_failing: bool = False


@dataclass(frozen=True)
class Cancel:
    """A client takes a task back: the *number*-th from the last."""

    number: int


@dataclass(frozen=True)
class Engine:
    """Something happens to the engine: crash, restart, reload, worker-killed; with which configuration."""

    kind: str
    slot: int = 0
    config: str = ""
    down_s: float = 0.5


Action = Submit | Visit | Fault | Heal | Pause | Origin | Cancel | Engine


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    seed: int = 0  #: of what the plan does not say: latencies, jitter
    workers: int = 1
    drivers: tuple[str, str, str] = ("varnish", "nginx", "ats")
    marked: bool = True
    steps: tuple[tuple[float, Action], ...] = field(default_factory=tuple)  #: seconds before it, and what

    def __str__(self) -> str:
        head = f"seed={self.seed}, workers={self.workers}, drivers={self.drivers}, marked={self.marked}"
        lines = [f"    ({gap!r}, {action!r})," for gap, action in self.steps]
        return "\n".join([f"Plan({head}, steps=(", *lines, "))"])


@dataclass(frozen=True)
class Scale:
    """How long things take, in seconds."""

    later: tuple[float, ...]  #: gaps between two steps that need not meet
    origin: tuple[float, ...]  #: latencies of a slow one
    down: tuple[float, ...]  #: between the end of an engine and its start
    rebound: float


VIRTUAL: Final = Scale(
    (0.0, 0.003, 0.03, 0.3, 1.5, 6.0, 40.0, 150.0), (0.2, 4.0, 50.0), (0.05, 1.0, 30.0), 5.0
)
REAL: Final = Scale((0.0, 0.003, 0.03, 0.3, 1.0, 3.0), (0.1, 1.0, 3.0), (0.05, 0.5, 2.0), 1.5)

DRIVERS: Final = ("varnish", "nginx", "ats", "squid")
_KINDS: Final = ("url", "url", "url", "url", "prefix", "host", "regex", "key")
_NODE_FAULTS: Final = (
    "down", "lost", "hang", "sick", "half-sick", "slow", "cuts", "wiped", "refuse", "refuse-bans", "forward",
)  # fmt: skip
_WRONG: Final = ("sick", "refuse", "refuse-bans", "half-sick", "forward")
_ENGINE_FAULTS: Final = ("crash", "restart", "worker-killed", "reload")
_SOON: Final = st.sampled_from((0.0, 0.003, 0.03, 0.3))
_NODE: Final = st.sampled_from(NODES)
_URL: Final = st.integers(0, len(URLS) - 1)

Step = tuple[float, Action]
Draw = Callable[[st.SearchStrategy[Any]], Any]


class _Scenes:
    """Draws steps that belong together: single faults seldom meet what they could spoil."""

    def __init__(self, faults: frozenset[str], scale: Scale) -> None:
        self._faults = faults
        self._later = st.sampled_from(scale.later)
        self._slow = st.sampled_from(scale.origin)
        self._node_faults = st.sampled_from([kind for kind in _NODE_FAULTS if kind in faults] or ["wiped"])
        self._away = [kind for kind in ("down", "lost", "hang") if kind in faults]
        self._wrong = [kind for kind in _WRONG if kind in faults]
        configs = ["", ""]
        configs += ["no-edge-2"] * ("node-removed" in faults) + ["other-driver"] * (
            "driver-changed" in faults
        )
        engine = [kind for kind in _ENGINE_FAULTS if kind in faults]
        self._configs = st.sampled_from(configs)
        self._engine = st.builds(
            Engine,
            st.sampled_from(engine or ["crash"]),
            slot=st.integers(0, 1),
            config=self._configs,
            down_s=st.sampled_from(scale.down),
        )
        self._submit = self._submits(scale)
        self._one = st.one_of(
            self._submit,
            st.builds(Visit, _NODE, _URL),
            st.builds(Fault, _NODE, self._node_faults),
            st.builds(Heal, _NODE),
            self._engine,
        )
        self.all = [self._under_fault, self._race, self._single]
        if engine:
            self.all.append(self._interrupted)
        if {"reload", "worker-killed"} <= faults:
            self.all.append(self._dies_young)
        if "cancel" in faults:
            self.all.append(self._taken_back)
        if "pause" in faults:
            self.all.append(self._paused)
        if len(set(configs)) > 1:
            self.all.append(self._reconfigured)
        if self._away and self._wrong:
            self.all.append(self._returns_wrong)

    def _submits(self, scale: Scale) -> st.SearchStrategy[Submit]:
        return st.builds(
            Submit,
            action=st.sampled_from(
                ("purge", "purge", "purge", "prefetch") if self._prefetches else ("purge",)
            ),
            kind=st.sampled_from(_KINDS),
            urls=st.sampled_from(((0,), (0,), (0, 1), (2,), (0, 2))),
            prefetch=st.booleans() if self._prefetches else st.just(False),
            soft=st.sampled_from((False, False, False, True)),
            nodes=st.sampled_from(((), (), (), ("edge-1",), ("parent-1", "edge-2"))),
            rebound_s=st.sampled_from((0, 0, scale.rebound)),
            on_incapable=st.sampled_from(("", "", "skip", "refuse")),
            worker=st.integers(0, 1),
            is_unchanged=st.sampled_from((False, False, True)),
        )

    @property
    def _prefetches(self) -> bool:
        return "prefetch-beside-purge" in self._faults

    def _under_fault(self, draw: Draw) -> list[Step]:
        """A node is ill while it is purged, and visited."""
        node = draw(_NODE)
        steps: list[Step] = [
            (0.0, Visit(node, draw(_URL))),
            (draw(_SOON), Fault(node, draw(self._node_faults))),
            (draw(_SOON), draw(self._submit)),
            (draw(self._later), Visit(draw(_NODE), draw(_URL))),
        ]
        if draw(st.booleans()):
            steps.insert(3, (draw(self._later), draw(self._submit)))
        if draw(st.booleans()):
            steps.append((draw(self._later), Heal(node)))
        return steps

    def _race(self, draw: Draw) -> list[Step]:
        """An object is on its way while it is purged."""
        fails = draw(st.booleans()) and "origin-fails" in self._faults
        slow_s = draw(self._slow) if "origin-slow" in self._faults else 0.02
        node, url = draw(_NODE), draw(_URL)
        first: Action = draw(self._submit) if self._prefetches and draw(st.booleans()) else Visit(node, url)
        return [
            (0.0, Origin(slow_s, is_failing=fails)),
            (0.0, first),
            (draw(_SOON), draw(self._submit)),
            (draw(_SOON), Visit(draw(_NODE), url)),
            (draw(self._later), Origin(0.01)),
        ]

    def _returns_wrong(self, draw: Draw) -> list[Step]:
        """A node was away while it was purged, and answers again, but does not do what it is asked."""
        node = draw(_NODE)
        return [
            (0.0, Fault(node, draw(st.sampled_from(self._away)))),
            (draw(_SOON), draw(self._submit)),
            (draw(_SOON), draw(self._submit)),
            (draw(self._later), Fault(node, draw(st.sampled_from(self._wrong)), is_alone=True)),
            (draw(self._later), Visit(node, draw(_URL))),
        ]

    def _interrupted(self, draw: Draw) -> list[Step]:
        """The engine ends, or changes, in the middle of a task."""
        return [
            (0.0, Visit(draw(_NODE), draw(_URL))),
            (draw(_SOON), draw(self._submit)),
            (draw(_SOON), draw(self._engine)),
        ]

    def _dies_young(self, draw: Draw) -> list[Step]:
        """A worker that a reload has brought up dies while the one before it still drains."""
        return [
            (draw(_SOON), draw(self._submit)),
            (0.0, Engine("reload", config=draw(self._configs))),
            (draw(_SOON), draw(self._submit)),
            (draw(_SOON), Engine("worker-killed", slot=draw(st.integers(0, 1)))),
        ]

    def _reconfigured(self, draw: Draw) -> list[Step]:
        """The configuration changes while a node has rows in its delay queue, or requests on the wire."""
        ill = [kind for kind in ("down", "hang", "slow") if kind in self._faults]
        node = draw(st.sampled_from(NODES[1:]))
        kind = draw(
            st.sampled_from([kind for kind in _ENGINE_FAULTS[:2] if kind in self._faults] or ["crash"])
        )
        return [
            (0.0, Fault(node, draw(st.sampled_from(ill or ["down"])))),
            (draw(_SOON), draw(self._submit)),
            (draw(self._later), Engine(kind, config=draw(self._configs))),
            (draw(self._later), Heal(node)),
        ]

    def _taken_back(self, draw: Draw) -> list[Step]:
        """A task is cancelled while it waits, or is on its way."""
        node = draw(_NODE)
        return [
            (0.0, Fault(node, draw(self._node_faults))),
            (draw(_SOON), draw(self._submit)),
            (draw(self._later), Cancel(draw(st.integers(0, 1)))),
            (draw(self._later), Heal(node)),
        ]

    def _paused(self, draw: Draw) -> list[Step]:
        """A node is paused while it is purged, ill or not, and while the engine ends, or not."""
        node = draw(_NODE)
        steps: list[Step] = [
            (draw(_SOON), draw(self._submit)),
            (draw(_SOON), Pause(node)),
            (draw(_SOON), draw(self._one)),
            (draw(self._later), draw(self._submit)),
            (draw(self._later), Visit(node, draw(_URL))),
        ]
        if draw(st.booleans()):
            steps.insert(0, (0.0, Fault(node, draw(self._node_faults))))
        if draw(st.booleans()):
            steps.append((draw(self._later), Pause(node, is_over=True)))
        return steps

    def _single(self, draw: Draw) -> list[Step]:
        return [(draw(self._later), draw(self._one))]


@functools.cache
def _scenes(faults: frozenset[str], scale: Scale) -> _Scenes:
    return _Scenes(faults, scale)


@st.composite
def plans(
    draw: Draw,
    faults: frozenset[str] = FAULTS,
    *,
    workers: int | None = None,
    scenes_max: int = 5,
    scale: Scale = VIRTUAL,
) -> Plan:
    """Draw a plan with these kinds of faults, for an engine of so many workers."""
    scenes = _scenes(faults, scale)
    steps: list[Step] = [(0.0, Visit(node, url)) for node in NODES[1:] for url in range(len(URLS))]
    steps.append((0.3, Heal(NODES[0])))
    for scene in draw(st.lists(st.sampled_from(scenes.all), min_size=1, max_size=scenes_max)):
        steps += scene(draw)
    return Plan(
        seed=draw(st.integers(0, 1 << 16)),
        workers=workers or draw(st.sampled_from((1, 2))),
        drivers=draw(st.tuples(*[st.sampled_from(DRIVERS)] * 3)),
        marked=draw(st.booleans()),
        steps=tuple(steps),
    )
