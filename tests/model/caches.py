"""An origin whose content changes, and caches that cache: they store, age, have parents, and go on fetching.

A fetch that is under way when a purge comes stores what it brings afterwards, as real caches do; it goes on
when whoever asked for it has gone. Who asks for an object that is being fetched waits for that fetch.

A soft purge makes an object stale: for `GRACE_S` it is still served to visitors, while it is fetched
again; a prefetch waits for that.

Everything runs on the loop it is started on, and asks the loop for the time; so the same caches stand behind
real sockets in `tests.model.outside`.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

ORIGIN = "origin"
FOR_EVER = float("inf")
GRACE_S: Final = 10.0  #: an object that a soft purge made stale is served for so long


@dataclass(eq=False)
class Fetch:
    """One object on its way into a cache."""

    node: str
    url: str
    root: str  #: who began it: "visitor" or "engine"
    began_at: float
    ended_at: float = FOR_EVER
    source: Fetch | None = None  #: what brought the object into the cache that it came from; None: the origin

    def __repr__(self) -> str:
        end = f"{self.ended_at:.3f}" if self.ended_at < FOR_EVER else "…"
        source = f" from {self.source!r}" if self.source is not None else ""
        return f"<{self.root}'s fetch of {self.url} into {self.node} {self.began_at:.3f}-{end}{source}>"


@dataclass(eq=False)
class Object:
    """What a cache stores for a URL."""

    version: int
    made_at: float  #: when the origin gave it
    fetch: Fetch
    fresh_until: float
    stale_at: float | None = None  #: when a soft purge made it stale


@dataclass
class Act:
    """A purge that a cache itself has carried out."""

    at: float
    method: str  #: "url", "prefix", "regex", "key"
    target: str
    is_soft: bool = False
    by: str = ""  #: address of the client that asked

    def covers(self, url: str) -> bool:
        """Tell whether an object of *url* went."""
        if self.method == "url":
            return url == self.target
        if self.method == "key":
            return key_of(url) == self.target
        if self.method == "regex":
            return re.match(self.target, url) is not None
        return url.startswith(self.target)


def key_of(url: str) -> str:
    """Return the surrogate key, with its host, that the origin gives an object: the start of its path."""
    _, _, host, start = url.split("/")[:4]
    return f"{host}/{start}"


class Origin:
    """Where the truth is: each URL has a version, which steps when its content changes.

    Args:
        wall_start_s: UNIX time when the loop's time is 0.
    """

    def __init__(self, wall_start_s: float) -> None:
        self.wall_start_s = wall_start_s
        self.versions: dict[str, int] = {}
        self.latency_s = 0.01
        self.is_failing = False
        self.fetches = 0

    def version(self, url: str) -> int:
        """Return the current one."""
        return self.versions.get(url, 1)

    def change(self, url: str) -> None:
        """Make new content."""
        self.versions[url] = self.version(url) + 1


@dataclass
class Faults:
    """What is wrong with a cache at the moment."""

    door: str = "open"  #: "refused": it is down; "lost": the engine cannot reach it, others can
    hangs: bool = False  #: takes requests, answers none
    sick: float = 0.0  #: share of purges answered 503, with nothing done
    sick_gets: bool = False
    refuses: set[str] = field(default_factory=set)  #: hosts (or "*") whose purges are answered 403
    refuses_bans: bool = False
    forwards: bool = False  #: purges are passed to the parent, or the origin
    cuts: float = 0.0  #: share of answers after which the connection is closed at once
    latency_s: float = 0.0

    @property
    def does_nothing(self) -> bool:
        """Whether every purge is answered with an error."""
        return self.sick >= 1 or "*" in self.refuses

    @property
    def refuses_some(self) -> bool:
        """Whether some purges are refused."""
        return bool(self.refuses) or self.refuses_bans

    def begin(self, kind: str, hosts: Sequence[str], rng: random.Random) -> None:
        """Begin what a plan calls *kind*; which of *hosts* is refused, or all, is drawn."""
        if kind == "refuse":
            self.refuses.add(rng.choice([*hosts, "*"]))
        else:
            name, value = _BY_KIND[kind]
            setattr(self, name, value)


_BY_KIND: Final[dict[str, tuple[str, object]]] = {
    "down": ("door", "refused"),
    "lost": ("door", "lost"),
    "hang": ("hangs", True),
    "sick": ("sick", 1.0),
    "half-sick": ("sick", 0.5),
    "slow": ("latency_s", 0.7),
    "cuts": ("cuts", 0.5),
    "refuse-bans": ("refuses_bans", True),
    "forward": ("forwards", True),
}


class Cache:
    """One cache.

    Args:
        name: of the node.
        driver: whose protocol and manners it has.
        origin: behind everything.
        parents: caches that it fetches through; none: the origin.
        rng: draws what is not written down.
        is_marked: its configuration has the lines that add ``Purgeline-Cache``.
    """

    def __init__(
        self,
        name: str,
        driver: str,
        origin: Origin,
        parents: list[Cache],
        *,
        rng: random.Random,
        is_marked: bool = True,
        ttl_s: float = 900.0,
    ) -> None:
        self.name = name
        self.driver = driver
        self.origin = origin
        self.parents = parents
        self.rng = rng
        self.is_marked = is_marked
        self.ttl_s = ttl_s
        self.faults = Faults()
        self.objects: dict[str, Object] = {}
        self.fetching: dict[str, asyncio.Future[Object | None]] = {}
        self.fetch_of: dict[str, Fetch] = {}
        self.acts: list[Act] = []
        self.gets: list[tuple[float, str]] = []  #: what the engine asked for by GET
        self.purged_beside: Counter[str] = (
            Counter()
        )  #: purges that met a fetch of what they cover, by its root
        self.undone: Counter[tuple[str, str]] = Counter()  #: purges answered with an error, by method and URL
        self.ill_since: float | None = None  #: it does no purge, and says so, from then on
        self.on_serve: Callable[[Cache, str, Object], None] = lambda cache, url, found: None
        self.started: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Cache {self.name} {self.driver} [{len(self.objects)} objects]>"

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    # Faults

    def fall_ill(self, kind: str, hosts: Sequence[str]) -> None:
        """Begin a fault of a plan."""
        self.faults.begin(kind, hosts, self.rng)
        if not self.faults.does_nothing:
            self.ill_since = None  # it did nothing before, and does some by now
        elif self.ill_since is None:
            self.ill_since = self.now()

    def heal(self, *, but_for_refusals: bool = False) -> None:
        """End what is wrong."""
        before, self.faults = self.faults, Faults()
        if but_for_refusals:
            self.faults.refuses, self.faults.refuses_bans = before.refuses, before.refuses_bans
        if not self.faults.does_nothing:
            self.ill_since = None

    # Objects

    def stored(self, url: str) -> Object | None:
        """Return an object that may be served; one that is too old is dropped."""
        found = self.objects.get(url)
        if found is None:
            return None
        until = found.fresh_until if found.stale_at is None else found.stale_at + GRACE_S
        if until <= self.now():
            del self.objects[url]
            return None
        return found

    async def get(self, url: str, root: str, *, by: Fetch | None = None) -> Object | None:
        """Serve an object; None when it cannot be fetched.

        Args:
            url: of the object.
            root: who asks in the end, "visitor" or "engine".
            by: the fetch of a child that asks.
        """
        found = self.stored(url)
        if found is not None and found.stale_at is not None:
            if url not in self.fetching:
                self.begin_fetch(url, root)
            if root == "engine":  # the template has prefetches wait
                found = None
        if found is None:
            under_way = self.fetching.get(url)
            if under_way is None:
                under_way = self.begin_fetch(url, root)
            found = await asyncio.shield(under_way)
        if found is None:
            return None
        if by is not None:
            by.source = found.fetch
        self.on_serve(self, url, found)
        return found

    def begin_fetch(self, url: str, root: str) -> asyncio.Future[Object | None]:
        """Begin to fetch, in a task of the cache's own."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Object | None] = loop.create_future()
        self.fetching[url] = future
        fetch = self.fetch_of[url] = Fetch(self.name, url, root, loop.time())
        task = loop.create_task(self._fetch(fetch, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return future

    async def _fetch(self, fetch: Fetch, future: asyncio.Future[Object | None]) -> None:
        found: Object | None = None
        try:
            came = await self._ask_upstream(fetch)
            fetch.ended_at = self.now()
            if came is not None:
                version, made_at = came
                found = Object(version, made_at, fetch, made_at + self.ttl_s)
                self.objects[fetch.url] = found
        finally:
            if self.fetching.get(fetch.url) is future:
                del self.fetching[fetch.url], self.fetch_of[fetch.url]
            if not future.done():
                future.set_result(found)

    async def _ask_upstream(self, fetch: Fetch) -> tuple[int, float] | None:
        """Return the version that came, and when the origin gave it; None for a failure."""
        if not self.parents:
            self.origin.fetches += 1
            await asyncio.sleep(0.001)
            version, made_at = self.origin.version(fetch.url), self.now()
            failing = self.origin.is_failing
            await asyncio.sleep(self.origin.latency_s)
            return None if failing else (version, made_at)
        for parent in self.parents:
            faults = parent.faults
            if faults.door == "refused" or faults.hangs or faults.sick_gets:
                continue
            await asyncio.sleep(0.001 + faults.latency_s)
            found = await parent.get(fetch.url, fetch.root, by=fetch)
            await asyncio.sleep(0.001)
            return (found.version, found.made_at) if found is not None else None
        return None

    def acts_since(self, at: float) -> list[Act]:
        """Return the purges since then."""
        return self.acts[bisect_left(self.acts, at, key=lambda act: act.at) :]

    def purge(self, act: Act) -> int:
        """Drop what is stored, or make it stale; not what is being fetched. Returns how many objects went."""
        self.acts.append(act)
        self.purged_beside.update(fetch.root for url, fetch in self.fetch_of.items() if act.covers(url))
        gone = [url for url in self.objects if act.covers(url)]
        for url in gone:
            if act.is_soft:
                self.objects[url].stale_at = act.at
            else:
                del self.objects[url]
        return len(gone)

    def wipe(self) -> None:
        """Lose everything: a restart of a cache in memory. Its fetches end as well."""
        self.objects.clear()
        for task in self._tasks:
            task.cancel()
        for future in self.fetching.values():  # a task that has not begun does not come to its end
            if not future.done():
                future.set_result(None)
        self.fetching.clear()
        self.fetch_of.clear()
