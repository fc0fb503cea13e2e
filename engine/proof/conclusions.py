"""Why visitors get what they get: a word for each node, and a sentence with time and next command. Pure.

What a node serves beside the origin, and what it made of the last purge that covers it, decide. Which of the
nodes tells for the whole: `engine.proof.whole`.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.nodes import drivers
from engine.nodes.drivers import ONE_VARIANT
from engine.proof.comparison import FROZEN_AGE, Verdict, is_of_one_cache, judge_by_time
from engine.proof.whole import DONE, ORDER, Conclusion, Told, told_of, utc, whole_of
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.proof.covering import Purge, PurgeNode
    from engine.proof.glance import Glance, Served, Truth
    from engine.proof.seen import Seen


_C: Final = Conclusion
_STALE: Final = frozenset(ORDER[:9])
_WELL: Final = frozenset({"ready", "returning", "catching_up"})
_TROUBLE: Final = 500  #: an origin that answers so, and above
_CLOCK_S: Final = 2  #: an ``Age`` has whole seconds, and so has what it is compared with


class NodeState(NamedTuple):
    """What the engine knows of a node."""

    state: str  #: as ``GET /v1/engine/nodes`` has it
    reason: str
    refuses: str  #: why it refuses purges of this host; empty: it does not


def conclude(
    url: str,
    glances: Sequence[Glance],
    truth: Truth,
    purges: Sequence[Purge],
    states: Mapping[str, NodeState],
    *,
    incomplete: str = "",
) -> tuple[dict[str, Told], Told]:
    """Return the conclusion of each node by name, and that of the whole.

    Args:
        url: in stored form.
        glances: what each node serves; parents before children.
        truth: what the origin has.
        purges: those that cover the URL, newest first.
        states: of the nodes, by name.
        incomplete: why some purges may be missing; empty: none are.
    """
    told: dict[str, Told] = {}
    by_name = {glance.node.name: glance for glance in glances}
    for glance in glances:
        case = _Case(url, glance, truth, purges, states[glance.node.name], incomplete=incomplete)
        parents = [by_name[name] for name in glance.node.parents or () if name in by_name]
        told[glance.node.name] = case.told(parents, told)
    return told, whole_of(list(told.values()))


class _Case:
    """One node, and what is known of it."""

    def __init__(
        self,
        url: str,
        glance: Glance,
        truth: Truth,
        purges: Sequence[Purge],
        state: NodeState,
        *,
        incomplete: str,
    ) -> None:
        self._url = url
        self._glance = glance
        self._truth = truth
        self._name = glance.node.name
        self._state = state
        self._at = utc(glance.at)
        self._known = f" of those that could be looked at ({incomplete})" if incomplete else ""
        self._as_known = f",{self._known}" if incomplete else ""
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
        return Told(_C.UNPROVEN, f"{what}, and it may fetch from there; later: `{self._why()}`", is_open=True)

    def _not_stale(self) -> Told:
        shown = self._glance.shown
        assert shown is not None
        if self._glance.of(Verdict.VERIFIED):
            if self._glance.filled:
                why = f"{self._name} had no copy of the page at {self._at}, and this look has filled it with"
                return Told(_C.NOT_CACHED, f"{why} what the origin has: {DONE}")
            return Told(_C.FRESH, f"{self._name} serves what the origin has, as seen at {self._at}: {DONE}")
        what = f"nothing shows whether what {self._name} serves (seen at {self._at}) is new"
        if (waits := self._why_not_purged(what)) is not None:
            return waits
        if self._acked is not None:
            acked_s = self._glance.at - self._acked
            judged = judge_by_time(shown.seen, self._glance.node.driver, acked_s)
            if judged.verdict is Verdict.VERIFIED:
                why = f"{self._name} serves what it stored after its purge at {utc(self._acked)}, by its Age"
                return self._open(_C.FRESH, why, shown)
        return self._open(_C.UNPROVEN, what, shown)

    def _open(self, conclusion: Conclusion, what: str, shown: Served) -> Told:
        """Tell of a node whose content nothing shows; an ``Age`` is no proof of it."""
        step = f"to be sure: `{self._again()}`"
        if trouble := self._trouble():
            cause, step = trouble, f"when it answers again: `{self._why()}`"
        elif shown.judgement is not None:
            cause = shown.judgement.reason
        else:
            cause = "the host has no [[origin]] to compare with"
            if conclusion is _C.FRESH:
                step = f"to have that proven, give the host one, reload the engine, then: `{self._why()}`"
        if conclusion is _C.FRESH:
            cause = f"nothing shows its content, because {cause}"
        return told_of(conclusion, what, cause, step, is_open=True)

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
        acked = f", although it was purged at {utc(self._acked)}" if self._acked else ""
        cause = f"it fetched the page from {source.node.name}, which has the old one, because {reason.cause}"
        return told_of(_C.REFILLED_FROM_STALE_PARENT, f"{what}{acked}", cause, reason.step)

    def _why_not_purged(self, what: str) -> Told | None:
        """Return why the last purge has not been done here, behind *what* was seen; None: it was."""
        purge, outcome = self._purge, self._outcome
        if purge is None or outcome is None:
            return self._never(what)
        if outcome.outcome in {"acked", "absent"}:
            return None
        named = f"purge {purge.task_id} of {utc(purge.created_at)}"
        if outcome.outcome == "failed":
            why = f"{named} failed at {self._name} ({outcome.reason or 'no reason is known'})"
            return told_of(_C.FAILED, what, why, self._purge_it())
        if outcome.outcome == "cancelled":
            why = f"{named} was cancelled before {self._name} had it"
            return told_of(_C.NEVER_PURGED, what, why, self._purge_it())
        return self._why_waiting(what, named, purge, outcome)

    def _why_waiting(self, what: str, named: str, purge: Purge, outcome: PurgeNode) -> Told:
        watch = f"next: `purgeline watch {purge.task_id}`"
        check = f"next: `purgeline check-nodes --config engine.toml --node {self._name}`"
        reason = self._state.refuses or outcome.reason or self._state.reason or self._state.state
        if self._state.state == "unproven":
            why = f"{self._name} answers purges, and nothing shows that it does them itself ({reason}), so"
            return told_of(_C.UNPROVEN, what, f"{why} {named} does not count and waits", check)
        if self._state.refuses:
            return told_of(_C.REFUSED, what, f"{self._name} refuses {named} ({reason})", check)
        if outcome.outcome == "delayed":
            why = f"{named} waits for {self._name} ({reason})"
            if self._state.state == "paused":
                step = f"to have it delivered: `purgeline resume {self._name}`"
                return told_of(_C.DELAYED, what, why, step)
            return told_of(_C.DELAYED, what, f"{why}, and is delivered when that is over", watch)
        if purge.start_at and purge.start_at > self._glance.at:
            return told_of(_C.PENDING, what, f"{named} begins at {utc(purge.start_at)}", watch)
        return told_of(_C.PENDING, what, f"{named} is on its way to {self._name}", watch)

    def _never(self, what: str) -> Told:
        if self._any is None:
            why = f"the engine knows of no purge of the page on {self._name}{self._as_known}"
        else:
            named = f"purge {self._any.task_id} of {utc(self._any.created_at)}"
            last = f", the last{self._known}," if self._known else ""
            why = f"{named}{last} went to other nodes than {self._name}"
        return told_of(_C.NEVER_PURGED, what, why, self._purge_it())

    def _after_ack(self, differs: str, stale: Sequence[Served], outcome: PurgeNode) -> Told:
        """Tell of a node that acked the purge; *differs*: what its visitors still get, as a verb and on."""
        purge, acked_at = self._purge, outcome.acked_at or 0.0
        assert purge is not None
        driver, seen, name = self._glance.node.driver, stale[0].seen, self._name
        named = f"purge {purge.task_id} (acked at {utc(acked_at)})"
        what = f"{name} {differs} (seen at {self._at})"
        vary, had_nothing = seen.field("vary"), outcome.outcome == "absent"
        age_s = None if driver in FROZEN_AGE else seen.age_s
        if age_s is not None and age_s + _CLOCK_S < self._glance.at - acked_at:
            why = f"{name} stored this page {age_s} s ago, after {named}, and no purge came since"
            why = f"{why} the origin changed{self._as_known}"
            return told_of(_C.NEVER_PURGED, what, why, self._purge_it())
        if self._glance.of(Verdict.VERIFIED):
            asks = f"Accept-Encoding {stale[0].encoding}" if stale[0].encoding else "no Accept-Encoding"
            what = f"{what}, to visitors with {asks}, and the new page to others"
            why = f"{named} did not reach that variant on {name}"
            return told_of(_C.VARIANT, what, why, self._wide(asks))
        if vary and driver in ONE_VARIANT and had_nothing:
            why = f"{name} keeps variants of the page (Vary: {vary}), and {named} did not reach this one"
            return told_of(_C.VARIANT, what, why, self._wide(f"its {vary}"))
        render = f"`purgeline render {driver} --node {name} --config engine.toml`"
        if had_nothing:
            why = f"{name} had nothing to drop for {named}, so it keeps the page under another cache key"
            step = f"compare the key that visitors are served by with {render}"
            return told_of(_C.STALE_AFTER_PURGE, what, f"{why} than purges name", step)
        why = f"{name} acked purge {purge.task_id} at {utc(acked_at)} and kept the page"
        before_s = 0.0 if age_s is None else age_s - (self._glance.at - acked_at)
        if before_s > _CLOCK_S and self._has_own_age(seen):
            had = f"which by its Age it had for {before_s:.0f} s then"
            more = "(visitors have another cache key than purges, or the answer comes without a purge)"
            step = f"compare its answer to purges, and its key, with {render}"
            return told_of(_C.STALE_AFTER_PURGE, what, f"{why}, {had} {more}", step)
        more = "under another cache key or from a fetch that had begun before the purge"
        step = f"next: `{self._again('--rebound 5 ')}`"
        return told_of(_C.STALE_AFTER_PURGE, what, f"{why}, {more}", step)

    def _has_own_age(self, seen: Seen) -> bool:
        """Tell whether an ``Age`` counts from when this node fetched the answer."""
        node = self._glance.node
        return not node.parents and is_of_one_cache(seen, node.driver, self._truth.answers.values())

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
