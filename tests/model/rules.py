"""What must hold, whatever happens: no old object after a purge that was acked, and tasks that add up.

*No node serves an object older than the last acked purge of it.* Excepted is what a visitor's own fetch
brought that was under way when the node, or the parent it came through, was purged; and what a soft purge
made stale.

*Every accepted task is done, waits with a reason, was cancelled, or failed for a reason that no operator
could mend.* What one operation and host is refused keeps nothing else waiting.
"""

from __future__ import annotations

import re
from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.nodes.drivers import PROBE_TARGET
from tests.model.caches import key_of
from tests.model.plans import URLS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tests.model.caches import Cache, Fetch, Object

FINAL = frozenset({"done", "failed", "cancelled"})
PARTS: Final = ("counter", "failed", "delayed", "cancelled")
_WIDE: Final[dict[str, frozenset[str]]] = {
    "varnish": frozenset({"prefix", "regex", "key", "host"}),
    "nginx": frozenset({"prefix", "host"}),
}
"""Driver → the wide purges that it can do as it is configured here."""
_SOFT: Final = frozenset({("varnish", "url"), ("varnish", "key")})
_ONE_VARIANT: Final = frozenset({"nginx", "squid"})
_UNDONE_MAX: Final = 300  #: with pauses that grow it takes hours to come so far
_TARGETS_SHOWN: Final = 100
_ON_THE_WIRE_S: Final = 5.0  #: a request that was sent has come to its end, or was given up
_HARD_NOTE: Final = "purged hard"
_VARIANT_NOTE: Final = "variant"


def can(driver: str, kind: str) -> bool:
    """Tell whether a cache can purge by *kind*."""
    return kind == "url" or kind in _WIDE.get(driver, ())


class Violation(AssertionError):  # noqa: N818 - it is one
    """A rule was broken."""


@dataclass(eq=False)
class Record:
    """What a client knows of a task it handed in."""

    task_id: str
    body: dict[str, Any]
    nodes: tuple[str, ...]  #: that it goes to
    skipped: frozenset[str]  #: nodes that cannot do it
    drivers: (
        dict[str, str] | None
    )  #: node → what the engine that accepted it took it for; None: it changed then
    sent_at: float
    required: dict[str, int] = field(
        default_factory=dict
    )  #: URL that is purged → version that must be served then
    names_unknown: bool = False  #: nodes that the engine does not know yet, or no more
    is_accepted: bool = False
    total: int = 0
    document: dict[str, Any] = field(default_factory=dict)
    done_at: float | None = None
    is_cancel_asked: bool = False
    was_delayed: bool = False  #: some of it went through a delay queue, so it was purged late, and not again

    @property
    def rebound_s(self) -> float:
        return float(self.body.get("rebound_s", 0))

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def is_soft(self) -> bool:
        return bool(self.body.get("soft"))

    @property
    def hosts(self) -> set[str]:
        return {target.removeprefix("http://").partition("/")[0] for target in self.body["targets"]}

    def __repr__(self) -> str:
        shown = {
            key: self.document.get(key)
            for key in ("state", "counter", "failed", "delayed", "cancelled", "errors")
        }
        return f"<{self.task_id} {self.body} to {', '.join(self.nodes)} sent {self.sent_at:.3f} {shown}>"

    @property
    def is_over(self) -> bool:
        return self.document.get("state") in FINAL


class Rules:
    """Checks a world.

    Args:
        caches: by name.
        trace: what happened so far, for what a failure says.
    """

    def __init__(self, caches: Mapping[str, Cache], trace: list[str]) -> None:
        self._caches = caches
        self._trace = trace
        self.records: dict[str, Record] = {}
        self._done: dict[str, list[Record]] = {}  # URL → that purged it, the one for the newest version first
        self.checks = 0
        self.is_end = False  #: all rebounds are over
        self.broken: Violation | None = None  #: the first; whoever noticed it may have nobody to tell

    def fail(self, what: str) -> None:
        """Say what was broken, with all that led to it."""
        violation = Violation("\n".join([what, "", "what happened:", *self._trace]))
        self.broken = self.broken or violation
        raise violation

    # Objects

    def check_object(self, cache: Cache, url: str, found: Object) -> None:
        """Refuse an object that an acked purge should have made impossible."""
        self.checks += 1
        for record in self._done.get(url, ()):
            need = record.required[url]
            if found.version >= need:
                break
            if (
                cache.name in record.nodes
                and not (record.is_soft and found.stale_at is not None and found.stale_at >= record.sent_at)
                and not self._is_excused(found.fetch, record)
            ):
                acts = [f"{act.at:.3f} {act.method} {act.target}" for act in cache.acts if act.covers(url)]
                self.fail(
                    f"{cache.name} has version {found.version} of {url}, not {need}, in spite of {record}\n"
                    f"it was brought by {found.fetch}\nthe node was purged at {acts}"
                )

    def _is_excused(self, fetch: Fetch, record: Record) -> bool:
        if fetch.node not in record.nodes:
            return True  # nobody was asked to purge it there
        cache = self._caches[fetch.node]
        until = record.done_at or 0.0
        rebound_s = 0.0 if record.was_delayed or not self.is_end else record.rebound_s
        is_dropped = rebound_s > 0 and fetch.ended_at < until + rebound_s  # by the rebound
        if (
            fetch.root == "visitor"
            and not is_dropped
            and any(
                record.sent_at <= act.at <= until and fetch.began_at <= act.at <= fetch.ended_at
                for act in cache.acts
                if act.covers(fetch.url)
            )
        ):
            return True
        return fetch.source is not None and self._is_excused(fetch.source, record)

    def check_all_objects(self, urls: Collection[str] | None = None) -> None:
        """Look at all that is stored, or at what is stored of *urls*."""
        for cache in self._caches.values():
            for url in list(cache.objects if urls is None else urls):
                found = cache.stored(url)
                if found is not None:
                    self.check_object(cache, url, found)

    def check_pauses(self) -> None:
        """Refuse an engine that asks for the same again and again, although it is answered with an error."""
        for cache in self._caches.values():
            for (method, url), times in cache.undone.items():
                if times > _UNDONE_MAX:
                    self.fail(f"{cache.name} has been asked to {method} {url} {times} times in vain")

    def check_paused(self, paused: Mapping[str, float]) -> None:
        """Refuse a purge of a node that operators have paused, but for what was on the wire, and probes.

        Args:
            paused: node → since when.
        """
        for name, since in paused.items():
            for act in self._caches[name].acts_since(since + _ON_THE_WIRE_S):
                if act.target != PROBE_TARGET:
                    self.fail(f"{name} is paused since {since:.3f}, and was purged: {act}")

    # Tasks

    def saw(self, record: Record, document: dict[str, Any], now: float) -> None:
        """Take a task's document in."""
        self.check_numbers(record, document)
        self._check_remarks(record, document)
        record.was_delayed = record.was_delayed or bool(document["delayed"])
        record.document = document
        if document["state"] == "done" and record.done_at is None:
            record.done_at = now
            self._check_proof(record)
            for url in record.required:
                insort(self._done.setdefault(url, []), record, key=lambda one: -one.required[url])
            self.check_all_objects(record.required)

    def check_numbers(self, record: Record, doc: dict[str, Any]) -> None:
        """Refuse a document whose numbers do not add up, or contradict those before."""
        parts = {key: doc[key] for key in PARTS}
        if doc["total"] != record.total:
            self.fail(f"the total of {record} was {record.total} and is {doc['total']}")
        if sum(parts.values()) > doc["total"] or min(parts.values()) < 0:
            self.fail(f"the numbers of {record} do not add up: {parts} of {doc['total']}")
        if doc["state"] in FINAL and (sum(parts.values()) != doc["total"] or doc["delayed"]):
            self.fail(
                f"the numbers of {record}, which is {doc['state']}, do not add up: {parts} of {doc['total']}"
            )
        self._check_parts(record, doc)
        if doc["state"] == "done" and doc["counter"] != doc["total"]:
            self.fail(f"{record} is done, and {parts} of {doc['total']}")
        before = record.document.get("state")
        if before in FINAL and doc["state"] != before:
            self.fail(f"{record} was {before}, and is {doc['state']}")

    def _check_parts(self, record: Record, doc: dict[str, Any]) -> None:
        """Refuse layers that do not add up to their task, and nodes that do not to their layer."""
        for layer in doc["layers"]:
            if sum(layer[key] for key in PARTS) > layer["total"]:
                self.fail(f"the numbers of layer {layer} of {record} do not add up")
            nodes = [node for node in doc["nodes"] if node["layer"] == layer["name"]]
            for key in ("total", *PARTS):
                told = [node["acked" if key == "counter" else key] for node in nodes]
                if sum(told) != layer[key] or min(told) < 0:
                    self.fail(f"the nodes of layer {layer} of {record} have {key} {told}")
            for node in nodes:
                if (node["acked_at"] is None) is not (node["acked"] == 0) or node["absent"] > node["acked"]:
                    self.fail(f"{record} says of a node {node}")
        for key in ("total", *PARTS) if doc["layers"] else ():
            if sum(layer[key] for layer in doc["layers"]) != doc[key]:
                self.fail(f"the layers of {record} do not add up to its {key}, {doc[key]}: {doc['layers']}")
        names = {node["name"] for node in doc["nodes"]}
        if doc["layers"] and names != set(record.nodes) and record.drivers is not None:
            self.fail(f"{record} tells of nodes {sorted(names)}")
        if (doc["settled_at"] is None) is (doc["state"] in FINAL):
            self.fail(f"{record} has settled at {doc['settled_at']}")
        targets = record.body["targets"]
        if (doc["targets"], doc["target_count"]) != (targets[:_TARGETS_SHOWN], len(targets)):
            self.fail(f"{record} says {doc['target_count']} targets: {doc['targets']}")

    def _check_remarks(self, record: Record, doc: dict[str, Any]) -> None:
        """Refuse a task that does not say what its nodes cannot do."""
        skipped = {skip["name"] for skip in doc["skipped"]}
        if skipped != record.skipped and record.drivers is not None:
            self.fail(f"{record} skips {sorted(skipped)}, not {sorted(record.skipped)}")
        if record.body["action"] != "purge" or record.drivers is None:
            return
        noted: dict[str, set[str]] = {_HARD_NOTE: set(), _VARIANT_NOTE: set()}
        for note in doc["notes"]:
            for word, nodes in noted.items():
                nodes.update(note["nodes"] if word in note["note"] else ())
        is_parent = any(name != "parent-1" for name in record.nodes)
        hard = {
            name
            for name in record.nodes
            if (is_parent and name == "parent-1") or (record.drivers[name], record.kind) not in _SOFT
        }
        if record.is_soft and not hard <= noted[_HARD_NOTE]:
            self.fail(f"{record} is soft, is not so on {sorted(hard)}, and says {doc['notes']}")
        one = {name for name in record.nodes if record.drivers[name] in _ONE_VARIANT}
        if record.kind == "url" and not one <= noted[_VARIANT_NOTE]:
            self.fail(f"{record} drops one variant on {sorted(one)}, and says {doc['notes']}")

    def _check_proof(self, record: Record) -> None:
        """Refuse an ack of something that a cache has not done."""
        for name in record.nodes:
            cache = self._caches[name]
            for url in record.required:
                if not any(act.covers(url) for act in cache.acts_since(record.sent_at)):
                    self.fail(f"{name} was never purged of {url} for {record}")
            if record.body.get("prefetch") or record.body.get("action") == "prefetch":
                for url in record.body["targets"]:
                    acts = [act.at for act in cache.acts_since(record.sent_at) if act.covers(url)]
                    since = min(acts) if record.required else record.sent_at
                    if not any(at >= since and got == url for at, got in cache.gets):
                        asked = [round(at, 3) for at, got in cache.gets if got == url]
                        seen = f"purged at {[round(at, 3) for at in acts]}, asked for at {asked}"
                        self.fail(
                            f"{name} was never asked for {url}, after it was purged, for {record}: {seen}"
                        )

    def rebounds_s(self) -> float:
        """Return how long the last rebound may take from now on."""
        return max((record.rebound_s for record in self.records.values()), default=0.0) * 6

    def check_unrefused(self, but_for: set[str]) -> None:
        """Refuse tasks that wait although nothing is wrong but that other purges are refused."""
        for record in self.waiting(but_for):
            self.fail(f"others are refused, all else is well, and {record} waits")

    def waiting(self, but_for: set[str]) -> list[Record]:
        """Return tasks that are not over, that no node refuses, and that go to none of *but_for*."""
        return [
            record
            for record in self.records.values()
            if record.is_accepted
            and not record.is_over
            and but_for.isdisjoint(record.nodes)
            and not any(self._refuses(self._caches[name], record) for name in record.nodes)
        ]

    def _refuses(self, cache: Cache, record: Record) -> bool:
        faults = cache.faults
        return bool(faults.refuses & {"*", *record.hosts}) or (faults.refuses_bans and record.kind != "url")

    def check_end(self, *, gone: set[str], changed: set[str]) -> None:
        """Refuse tasks that are nowhere, when everything has been well for long.

        Args:
            gone: nodes that are not configured at the end.
            changed: nodes that may be of another kind than when a task was accepted, and not do what it asks.
        """
        for record in self.records.values():
            state = record.document.get("state")
            if not record.is_accepted or state == "done" or (state == "cancelled" and record.is_cancel_asked):
                continue
            unable = changed if record.kind != "url" else set()
            missing = [name for name in record.nodes if name in gone | unable]
            reasons = [error["reason"] for error in record.document.get("errors", ())]
            theirs = record.total * len(missing) // len(record.nodes)
            left = record.document.get("failed", 0) + record.document.get("delayed", 0)
            if state in {"failed", "partial"} and 0 < left <= theirs and reasons:
                continue
            self.fail(f"everything is well, and {record} is {state}: {reasons}")


def urls_of(body: Mapping[str, Any]) -> list[str]:
    """Return the URLs of the model that a purge covers."""
    if body["action"] != "purge":
        return []
    if body["kind"] == "url":
        return list(body["targets"])
    targets = tuple(body["targets"])
    if body["kind"] == "host":
        return [url for url in URLS if url.split("/")[2] in targets]
    if body["kind"] == "key":
        return [url for url in URLS if key_of(url) in targets]
    if body["kind"] == "regex":
        return [url for url in URLS if any(re.match(target, url) for target in targets)]
    return [url for url in URLS if url.startswith(targets)]
