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
        of = f"{count} of {len(told)} nodes" if count < len(told) else "every node"
        whole = Told(_C.FRESH, f"{of} serves what the origin has, as seen at {_at(time.time())}: {_DONE}")
    return told, whole


_DONE: Final = "nothing is to be done"


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
        if glance.error:
            why = f"{self._name} gives visitors no answer at {self._at}: {glance.error}"
            return Told(_C.UNREACHABLE, f"{why}; see `purgeline nodes`")
        if glance.has_none:
            why = f"{self._name} had nothing of it at {self._at}, so the next visitor has it fetched"
            return Told(
                _C.NOT_CACHED,
                f"{why}; to fill it: `purgeline prefetch --node {self._name} {shlex.quote(self._url)}`",
            )
        stale = glance.of(Verdict.STALE)
        if not stale:
            return self._not_stale()
        return self._why_stale(stale, parents, before)

    def _not_stale(self) -> Told:
        shown = self._glance.shown
        assert shown is not None
        if self._glance.of(Verdict.VERIFIED):
            if self._glance.filled:
                why = f"{self._name} had nothing of it at {self._at}, and this look has filled it with what"
                return Told(_C.NOT_CACHED, f"{why} the origin has: {_DONE}")
            return Told(_C.FRESH, f"{self._name} serves what the origin has, as seen at {self._at}: {_DONE}")
        if (waits := self._why_not_purged()) is not None:
            return waits
        if self._acked is not None:
            acked_s = self._glance.at - self._acked
            judged = judge_by_time(shown.seen, self._glance.node.driver, acked_s)
            if judged.verdict is Verdict.VERIFIED:
                why = f"{self._name} serves what it stored after its purge at {_at(self._acked)}"
                return Told(_C.FRESH, f"{why}, by its Age: {_DONE}")
        nothing = self._truth.error or (shown.judgement.reason if shown.judgement else "it has no [[origin]]")
        why = f"nothing shows whether what {self._name} serves at {self._at} is new: {nothing}"
        return Told(_C.UNPROVEN, f"{why}; to be sure: `{self._again()}`")

    def _why_stale(
        self, stale: Sequence[Served], parents: Sequence[Glance], before: Mapping[str, Told]
    ) -> Told:
        judgement = stale[0].judgement
        assert judgement is not None
        what = f"{self._name} {judgement.reason}"
        waits = self._why_not_purged(what)
        source = next((one for one in parents if _same(one, stale[0])), None)
        if source is not None:
            reason = before[source.node.name]
            if self._came_from(reason.conclusion, waits):
                return self._refilled(what, source, reason)
        if waits is not None:
            return waits
        assert self._outcome is not None
        return self._after_ack(what, stale, self._outcome)

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
        why = f"{what}{acked}, because it fetched that from {source.node.name}: {reason.sentence}"
        return Told(_C.REFILLED_FROM_STALE_PARENT, why)

    def _why_not_purged(self, what: str = "") -> Told | None:
        """Return why the last purge has not been done here; None: it was."""
        lead = f"{what}: " if what else ""
        purge, outcome = self._purge, self._outcome
        if purge is None or outcome is None:
            return self._never(lead)
        if outcome.outcome in {"acked", "absent"}:
            return None
        named = f"purge {purge.task_id} of {_at(purge.created_at)}"
        if outcome.outcome == "failed":
            why = f"{named} failed at {self._name} ({outcome.reason or 'no reason is known'})"
            return Told(_C.FAILED, f"{lead}{why}; `{self._again()}`")
        if outcome.outcome == "cancelled":
            why = f"{named} was cancelled before {self._name} had it"
            return Told(_C.NEVER_PURGED, f"{lead}{why}; `{self._again()}`")
        return self._why_waiting(lead, named, purge, outcome)

    def _why_waiting(self, lead: str, named: str, purge: Purge, outcome: PurgeNode) -> Told:
        watch = f"`purgeline watch {purge.task_id}`"
        check = f"`purgeline check-nodes --config engine.toml --node {self._name}`"
        reason = self._state.refuses or outcome.reason or self._state.reason or self._state.state
        if self._state.state == "unproven":
            why = f"nothing shows that {self._name} does the purges that it answers, so {named} waits"
            return Told(_C.UNPROVEN, f"{lead}{why} ({reason}); {check}")
        if self._state.refuses:
            return Told(_C.REFUSED, f"{lead}{self._name} refuses {named} ({reason}); {check}")
        if outcome.outcome == "delayed":
            why = f"{named} waits for {self._name} ({reason}) and is delivered when that is over"
            return Told(_C.DELAYED, f"{lead}{why}; {watch}")
        if purge.start_at and purge.start_at > self._glance.at:
            return Told(_C.PENDING, f"{lead}{named} begins at {_at(purge.start_at)}; {watch}")
        return Told(_C.PENDING, f"{lead}{named} is on its way to {self._name}; {watch}")

    def _never(self, lead: str) -> Told:
        if self._any is None:
            why = f"no purge that the engine knows of has taken it from {self._name}"
        else:
            named = f"purge {self._any.task_id} of {_at(self._any.created_at)}"
            why = f"{named} went to other nodes than {self._name}"
        return Told(_C.NEVER_PURGED, f"{lead}{why}, seen at {self._at}; `{self._again()}`")

    def _after_ack(self, what: str, stale: Sequence[Served], outcome: PurgeNode) -> Told:
        purge, acked_at = self._purge, outcome.acked_at or 0.0
        assert purge is not None
        driver, seen = self._glance.node.driver, stale[0].seen
        named = f"purge {purge.task_id}, which {self._name} acked at {_at(acked_at)}"
        vary, had_nothing = seen.field("vary"), outcome.outcome == "absent"
        if self._glance.of(Verdict.VERIFIED):
            asks = stale[0].encoding or "none"
            why = f"{what} to visitors with Accept-Encoding {asks}, and the new one to others"
            return Told(_C.VARIANT, f"{why}: a variant that {named} did not reach; {self._wide()}")
        if vary and driver in ONE_VARIANT and had_nothing:
            why = f"{what}: it keeps a variant (Vary: {vary}) that {named} did not reach"
            return Told(_C.VARIANT, f"{why}; {self._wide()}")
        age_s = None if driver in FROZEN_AGE else seen.age_s
        if age_s is not None and age_s + _CLOCK_S < self._glance.at - acked_at:
            why = f"{what}, which it stored {age_s} s ago, after {named}"
            changed = "what the origin has changed since then nobody has purged"
            return Told(_C.NEVER_PURGED, f"{why}: {changed}; `{self._again()}`")
        if had_nothing:
            why = f"{what}, and had nothing to drop for {named}"
            key = "visitors are served under another cache key than purges have"
            render = f"purgeline render {driver} --node {self._name} --config engine.toml"
            return Told(_C.STALE_AFTER_PURGE, f"{why}: {key}; compare with `{render}`")
        why = "it keeps the object under another cache key, or stored the old one again that it was fetching"
        return Told(_C.STALE_AFTER_PURGE, f"{what} after {named}: {why}; `{self._again('--rebound 5 ')}`")

    def _again(self, more: str = "") -> str:
        return f"purgeline purge {more}{shlex.quote(self._url)}"

    def _wide(self) -> str:
        if Operation.PURGE_HOST in drivers.capabilities(self._glance.node):
            host = shlex.quote(self._url.split("/", 3)[2])
            return f"`purgeline purge --host --node {self._name} {host}`"
        return "it goes when it expires, or when headers of its [[node]] ask for it; see `purgeline nodes`"


def _same(parent: Glance, served: Served) -> bool:
    """Tell whether a parent serves the same old content."""
    return any(
        (one.seen.digest and one.seen.digest == served.seen.digest)
        or (one.seen.etag and one.seen.etag == served.seen.etag)
        for one in parent.of(Verdict.STALE)
    )


def _at(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
