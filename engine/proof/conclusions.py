"""Why visitors get what they get: a word for each node, and a sentence with time and next command. Pure.

What a node serves beside the origin, and what it made of the last purge that covers it, decide. Of the nodes
the one whose conclusion is first in `_ORDER` gives that of the whole: what an edge got from a stale parent
comes before the reason why the parent is stale, which its sentence names too.
"""

from __future__ import annotations

import shlex
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes import drivers
from engine.nodes.drivers import ONE_VARIANT
from engine.proof.comparison import FROZEN_AGE, Verdict, judge_by_time
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.proof.covering import Purge, PurgeNode
    from engine.proof.glance import Glance, Served, Truth


class Conclusion(StrEnum):
    """Why a visitor gets what he gets."""

    FRESH = "fresh"
    NEVER_PURGED = "never_purged"
    PENDING = "pending"
    DELAYED = "delayed"
    FAILED = "failed"
    REFUSED = "refused"
    UNPROVEN = "unproven"
    STALE_AFTER_PURGE = "stale_after_purge"
    REFILLED_FROM_STALE_PARENT = "refilled_from_stale_parent"
    VARIANT = "variant"
    NOT_CACHED = "not_cached"
    UNREACHABLE = "unreachable"


_C: Final = Conclusion
_ORDER: Final = (
    *(_C.REFILLED_FROM_STALE_PARENT, _C.REFUSED, _C.UNPROVEN, _C.FAILED, _C.DELAYED, _C.PENDING),
    *(_C.STALE_AFTER_PURGE, _C.VARIANT, _C.NEVER_PURGED, _C.UNREACHABLE, _C.FRESH, _C.NOT_CACHED),
)
_STALE: Final = frozenset(_ORDER[:9])
_WELL: Final = frozenset({"ready", "returning", "catching_up"})
_TROUBLE: Final = 500  #: an origin that answers so, and above
_CLOCK_S: Final = 2  #: an ``Age`` has whole seconds, and so has what it is compared with


class NodeState(NamedTuple):
    """What the engine knows of a node."""

    state: str  #: as ``GET /v1/engine/nodes`` has it
    reason: str
    refuses: str  #: why it refuses purges of this host; empty: it does not


class Told(NamedTuple):
    """The conclusion of one node, or of all, and its sentence."""

    conclusion: Conclusion
    sentence: str
    cause: str = ""  #: the part of the sentence that says why its visitors get what they get
    step: str = ""  #: the end of the sentence: the next command


def conclude(
    url: str,
    glances: Sequence[Glance],
    truth: Truth,
    purges: Sequence[Purge],
    states: Mapping[str, NodeState],
) -> tuple[dict[str, Told], Told]:
    """Return the conclusion of each node by name, and that of the whole.

    Args:
        url: in stored form.
        glances: what each node serves; parents before children.
        truth: what the origin has.
        purges: those that cover the URL, newest first.
        states: of the nodes, by name.
    """
    told: dict[str, Told] = {}
    by_name = {glance.node.name: glance for glance in glances}
    for glance in glances:
        case = _Case(url, glance, truth, purges, states[glance.node.name])
        parents = [by_name[name] for name in glance.node.parents or () if name in by_name]
        told[glance.node.name] = case.told(parents, told)
    whole = min(told.values(), key=lambda one: _ORDER.index(one.conclusion))
    if whole.conclusion is _C.FRESH:
        count = sum(1 for one in told.values() if one.conclusion is _C.FRESH)
        who = f"every node that has a copy ({count} of {len(told)})" if count < len(told) else "every node"
        whole = Told(_C.FRESH, f"{who} serves what the origin has, as seen at {_at(time.time())}: {_DONE}")
    return told, whole


_DONE: Final = "nothing is to be done"


def _told(conclusion: Conclusion, what: str, cause: str, step: str) -> Told:
    return Told(conclusion, f"{what}: {cause}; {step}", cause, step)


class _Case:
    """One node, and what is known of it."""

    def __init__(
        self, url: str, glance: Glance, truth: Truth, purges: Sequence[Purge], state: NodeState
    ) -> None:
        self._url = url
        self._glance = glance
        self._truth = truth
        self._name = glance.node.name
        self._state = state
        self._at = _at(glance.at)
        self._any = purges[0] if purges else None
        mine = [(purge, node) for purge in purges if (node := purge.of(self._name)) is not None]
        self._purge: Purge | None = mine[0][0] if mine else None
        self._outcome: PurgeNode | None = mine[0][1] if mine else None
        self._acked = next(
            (node.acked_at for _, node in mine if node.outcome in {"acked", "absent"} and node.acked_at), None
        )

    def told(self, parents: Sequence[Glance], before: Mapping[str, Told]) -> Told:
        """Return the conclusion of this node; *before*: those of its parents."""
        glance = self._glance
        if glance.is_held and not glance.answers:
            return self._not_asked()
        if glance.error and not glance.is_held:
            why = f"{self._name} gave visitors no answer at {self._at}: {glance.error}"
            return Told(_C.UNREACHABLE, f"{why}; next: `purgeline nodes`")
        if glance.has_none:
            why = f"{self._name} had no copy of the page at {self._at}, and fetches one for its next visitor"
            prefetch = f"`purgeline prefetch --node {self._name} {shlex.quote(self._url)}`"
            return Told(_C.NOT_CACHED, f"{why}; to have it fetched now: {prefetch}")
        stale = glance.of(Verdict.STALE)
        if not stale:
            return self._not_stale()
        return self._why_stale(stale, parents, before)

    def _not_asked(self) -> Told:
        """Tell of a node that may fetch what it is asked for, from an origin that is left alone."""
        what = f"{self._name} was not asked for the page at {self._at}, because {self._glance.error}"
        waits = self._why_not_purged(what)
        if waits is not None and waits.conclusion is not _C.NEVER_PURGED:
            return waits
        return Told(_C.UNPROVEN, f"{what}, and it may fetch from there; later: `{self._why()}`")

    def _not_stale(self) -> Told:
        shown = self._glance.shown
        assert shown is not None
        if self._glance.of(Verdict.VERIFIED):
            if self._glance.filled:
                why = f"{self._name} had no copy of the page at {self._at}, and this look has filled it with"
                return Told(_C.NOT_CACHED, f"{why} what the origin has: {_DONE}")
            return Told(_C.FRESH, f"{self._name} serves what the origin has, as seen at {self._at}: {_DONE}")
        what = f"nothing shows whether what {self._name} serves (seen at {self._at}) is new"
        if (waits := self._why_not_purged(what)) is not None:
            return waits
        if self._acked is not None:
            acked_s = self._glance.at - self._acked
            judged = judge_by_time(shown.seen, self._glance.node.driver, acked_s)
            if judged.verdict is Verdict.VERIFIED:
                why = f"{self._name} serves what it stored after its purge at {_at(self._acked)}"
                return Told(_C.FRESH, f"{why}, by its Age: {_DONE}")
        if trouble := self._trouble():
            return Told(_C.UNPROVEN, f"{what}: {trouble}; when it answers again: `{self._why()}`")
        nothing = shown.judgement.reason if shown.judgement else "the host has no [[origin]] to compare with"
        return Told(_C.UNPROVEN, f"{what}: {nothing}; to be sure: `{self._again()}`")

    def _trouble(self) -> str:
        """Return why the origin has nothing to compare with; a purge would take the last copies then."""
        failed = next((seen.status for seen in self._truth.answers.values() if seen.status >= _TROUBLE), 0)
        return self._truth.error or (f"the origin answered {failed}" if failed else "")

    def _why_stale(
        self, stale: Sequence[Served], parents: Sequence[Glance], before: Mapping[str, Told]
    ) -> Told:
        judgement = stale[0].judgement
        assert judgement is not None
        what = f"{self._name} {judgement.reason} (seen at {self._at})"
        waits = self._why_not_purged(what)
        source = next((one for one in parents if _same(one, stale[0])), None)
        if source is not None:
            reason = before[source.node.name]
            if self._came_from(reason.conclusion, waits):
                return self._refilled(what, source, reason)
        if waits is not None:
            return waits
        assert self._outcome is not None
        return self._after_ack(judgement.reason, stale, self._outcome)

    def _came_from(self, parent: Conclusion, waits: Told | None) -> bool:
        """Tell whether it is a stale parent's fault; an edge below it waits, too, and is well itself."""
        if waits is None:
            return parent in _STALE
        is_well = self._state.state in _WELL and not self._state.refuses
        waits_along = waits.conclusion in {_C.PENDING, _C.DELAYED}
        is_cause = parent in _STALE and parent not in {_C.NEVER_PURGED, _C.PENDING}
        return waits_along and is_well and is_cause

    def _refilled(self, what: str, source: Glance, reason: Told) -> Told:
        acked = f", although it was purged at {_at(self._acked)}" if self._acked else ""
        cause = f"it fetched the page from {source.node.name}, which has the old one, because {reason.cause}"
        return _told(_C.REFILLED_FROM_STALE_PARENT, f"{what}{acked}", cause, reason.step)

    def _why_not_purged(self, what: str) -> Told | None:
        """Return why the last purge has not been done here, behind *what* was seen; None: it was."""
        purge, outcome = self._purge, self._outcome
        if purge is None or outcome is None:
            return self._never(what)
        if outcome.outcome in {"acked", "absent"}:
            return None
        named = f"purge {purge.task_id} of {_at(purge.created_at)}"
        if outcome.outcome == "failed":
            why = f"{named} failed at {self._name} ({outcome.reason or 'no reason is known'})"
            return _told(_C.FAILED, what, why, self._purge_it())
        if outcome.outcome == "cancelled":
            why = f"{named} was cancelled before {self._name} had it"
            return _told(_C.NEVER_PURGED, what, why, self._purge_it())
        return self._why_waiting(what, named, purge, outcome)

    def _why_waiting(self, what: str, named: str, purge: Purge, outcome: PurgeNode) -> Told:
        watch = f"next: `purgeline watch {purge.task_id}`"
        check = f"next: `purgeline check-nodes --config engine.toml --node {self._name}`"
        reason = self._state.refuses or outcome.reason or self._state.reason or self._state.state
        if self._state.state == "unproven":
            why = f"{self._name} answers purges, and nothing shows that it does them itself ({reason}), so"
            return _told(_C.UNPROVEN, what, f"{why} {named} does not count and waits", check)
        if self._state.refuses:
            return _told(_C.REFUSED, what, f"{self._name} refuses {named} ({reason})", check)
        if outcome.outcome == "delayed":
            why = f"{named} waits for {self._name} ({reason})"
            if self._state.state == "paused":
                step = f"to have it delivered: `purgeline resume {self._name}`"
                return _told(_C.DELAYED, what, why, step)
            return _told(_C.DELAYED, what, f"{why}, and is delivered when that is over", watch)
        if purge.start_at and purge.start_at > self._glance.at:
            return _told(_C.PENDING, what, f"{named} begins at {_at(purge.start_at)}", watch)
        return _told(_C.PENDING, what, f"{named} is on its way to {self._name}", watch)

    def _never(self, what: str) -> Told:
        if self._any is None:
            why = f"the engine knows of no purge of the page on {self._name}"
        else:
            named = f"purge {self._any.task_id} of {_at(self._any.created_at)}"
            why = f"{named} went to other nodes than {self._name}"
        return _told(_C.NEVER_PURGED, what, why, self._purge_it())

    def _after_ack(self, differs: str, stale: Sequence[Served], outcome: PurgeNode) -> Told:
        """Tell of a node that acked the purge; *differs*: what its visitors still get, as a verb and on."""
        purge, acked_at = self._purge, outcome.acked_at or 0.0
        assert purge is not None
        driver, seen, name = self._glance.node.driver, stale[0].seen, self._name
        named = f"purge {purge.task_id} (acked at {_at(acked_at)})"
        what = f"{name} {differs} (seen at {self._at})"
        vary, had_nothing = seen.field("vary"), outcome.outcome == "absent"
        age_s = None if driver in FROZEN_AGE else seen.age_s
        if age_s is not None and age_s + _CLOCK_S < self._glance.at - acked_at:
            why = f"{name} stored this page {age_s} s ago, after {named}, and nobody has purged it since"
            return _told(_C.NEVER_PURGED, what, f"{why} the origin changed", self._purge_it())
        if self._glance.of(Verdict.VERIFIED):
            asks = f"Accept-Encoding {stale[0].encoding}" if stale[0].encoding else "no Accept-Encoding"
            what = f"{what}, to visitors with {asks}, and the new page to others"
            return _told(_C.VARIANT, what, f"{named} did not reach that variant on {name}", self._wide(asks))
        if vary and driver in ONE_VARIANT and had_nothing:
            why = f"{name} keeps variants of the page (Vary: {vary}), and {named} did not reach this one"
            return _told(_C.VARIANT, what, why, self._wide(f"its {vary}"))
        render = f"`purgeline render {driver} --node {name} --config engine.toml`"
        if had_nothing:
            why = f"{name} had nothing to drop for {named}, so it keeps the page under another cache key"
            step = f"compare the key that visitors are served by with {render}"
            return _told(_C.STALE_AFTER_PURGE, what, f"{why} than purges name", step)
        why = f"{name} acked purge {purge.task_id} at {_at(acked_at)} and kept the page"
        before_s = 0.0 if age_s is None else age_s - (self._glance.at - acked_at)
        if before_s > _CLOCK_S:
            had = f"which by its Age it had for {before_s:.0f} s then"
            more = "(visitors have another cache key than purges, or the answer comes without a purge)"
            step = f"compare its answer to purges, and its key, with {render}"
            return _told(_C.STALE_AFTER_PURGE, what, f"{why}, {had} {more}", step)
        more = "under another cache key or from a fetch that had begun before the purge"
        step = f"next: `{self._again('--rebound 5 ')}`"
        return _told(_C.STALE_AFTER_PURGE, what, f"{why}, {more}", step)

    def _purge_it(self) -> str:
        return f"next: `{self._again()}`"

    def _why(self) -> str:
        return f"purgeline why {shlex.quote(self._url)}"

    def _again(self, more: str = "") -> str:
        return f"purgeline purge {more}{shlex.quote(self._url)}"

    def _wide(self, asks: str) -> str:
        """Return what drops a variant that visitors with such headers get."""
        if Operation.PURGE_HOST in drivers.capabilities(self._glance.node):
            host = shlex.quote(self._url.split("/", 3)[2])
            return f"to drop all variants: `purgeline purge --host --node {self._name} {host}`"
        headers = f"have purges ask for it by `headers` of [[node]] {self._name} ({asks}), reload the engine"
        return f"{headers}, then `{self._again()}`; else it is served until it expires"


def _same(parent: Glance, served: Served) -> bool:
    """Tell whether a parent serves the same old content."""
    return any(
        (one.seen.digest and one.seen.digest == served.seen.digest)
        or (one.seen.etag and one.seen.etag == served.seen.etag)
        for one in parent.of(Verdict.STALE)
    )


def _at(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
