"""What is known of the leaves below one child: asked for every few seconds, kept when it does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from loguru import logger

from engine.api.below import MARK, LeafStatus, LeavesStatus, WorstLeaf, one_line
from engine.base.slices import slices
from engine.errors import EngineError
from engine.tree.leaves import READY, concern, names_of, readable
from engine.tree.words import ASK, Answer, Leaf, Leaves, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.intake.naming import Told
    from engine.nodes.node import Node
    from engine.tree.link import Link
    from engine.tree.place import Place

EVERY_S: Final = 5.0
_FIRST_S: Final = 0.5  #: between the first questions, until something is known
_FIRST: Final = 20  #: so many
_decode = msgspec.json.Decoder(Answer).decode
_UNTOLD: Final = "it does not tell of its leaves: its version is before that"


class _Sums(NamedTuple):
    """Of all leaves, made when they are told: the nodes are shown far more often."""

    states: Mapping[str, int]
    delayed: int
    oldest_delayed_s: float
    worst: WorstLeaf | None


class Census:
    """Of one child.

    Args:
        link: to it.
        place: this engine's.
        node: it as this engine has it.
        on_version: told which version of the protocol the child speaks.
    """

    def __init__(
        self, link: Link, place: Place, node: Node, on_version: Callable[[int], None] | None = None
    ) -> None:
        self._link = link
        self._place = place
        self._on_version = on_version
        self.name = node.name
        self._health = node.health
        self.told = Leaves("")
        self._sums = _Sums({}, 0, 0.0, None)
        self._rows: tuple[tuple[float, bool], list[LeafStatus]] | None = None
        self._names: tuple[tuple[int, bool], Told] | None = None
        self.changes = 0  #: how often it has told something new, or fallen silent
        self.learned_at = 0.0  #: UNIX time of the last answer; 0: there was none
        self._learned = 0.0
        self._unwell_since = 0.0
        self._engine = ""
        self._release = ""
        self._error = "it has not been asked yet"

    def __repr__(self) -> str:
        return f"<Census of {self.name} [{len(self.told.leaves)} leaves]>"

    @property
    def is_current(self) -> bool:
        """Whether the child tells, and not what it told once is all that is known."""
        return not self._error and not self._health.is_down

    async def keep_up(self) -> None:
        """Ask, again and again."""
        asked = 0
        while True:
            await self.ask()
            asked += 1
            pause_s = _FIRST_S if not self.learned_at and asked < _FIRST else EVERY_S
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - so that not all ask at once

    async def ask(self) -> None:
        """Ask once."""
        question = msgspec.json.encode(Question(leaves=self.told.seen))
        try:
            said = await self._link.post(ASK, question, path=await self._place.path_of(""))
            answer = _decode(said.body)
        except (EngineError, msgspec.DecodeError) as exc:
            self._error = one_line(str(exc))
            return
        except Exception as exc:  # noqa: BLE001 - what a child answers ends nothing here
            logger.opt(exception=exc).error("asking {} for its leaves failed", self.name)
            self._error = one_line(repr(exc))
            return
        if self._on_version is not None:
            self._on_version(answer.version)
        self._engine, self._release = one_line(answer.engine), one_line(answer.release)
        if answer.leaves is not None:
            self.told = readable(answer.leaves)
            self.changes += 1
            self._sums = self._sum()
            self._unwell_since = 0.0 if self._sums.worst is None else self._unwell_since or time.time()
        elif not self.told.seen:
            self._error = _UNTOLD
            return
        self._error = ""
        self.learned_at, self._learned = time.time(), time.monotonic()

    @property
    def names(self) -> Told:
        """What tasks may name below the child; made when somebody asks, of 10,000 leaves it takes a while."""
        of = (self.changes, self.is_current)
        if self._names is None or self._names[0] != of:
            self._names = (of, names_of(self.told, is_current=self.is_current))
        return self._names[1]

    def status(self) -> LeavesStatus:
        """Return the leaves in numbers."""
        sums = self._sums
        return LeavesStatus(
            count=len(self.told.leaves) + self.told.left_out,
            states=dict(sums.states),
            delayed=sums.delayed,
            oldest_delayed_s=sums.oldest_delayed_s,
            worst=sums.worst,
            unwell_since=round(self._unwell_since, 3),
            engine=self._engine,
            release=self._release,
            learned_at=round(self.learned_at, 3),
            current=self.is_current,
            left_out=self.told.left_out,
            error=self._error,
        )

    def _sum(self) -> _Sums:
        leaves = self.told.leaves
        worst = min(leaves, key=concern, default=None)
        return _Sums(
            Counter(leaf.state for leaf in leaves),
            sum(leaf.delayed for leaf in leaves),
            max((self._oldest_s(leaf) for leaf in leaves), default=0.0),
            None if worst is None or worst.state == READY else self._worst(worst),
        )

    def _worst(self, leaf: Leaf) -> WorstLeaf:
        return WorstLeaf(self.name + MARK + leaf.name, leaf.state, leaf.reason)

    def _oldest_s(self, leaf: Leaf) -> float:
        return round(leaf.oldest_delayed_s, 3)

    async def rows(self) -> list[LeafStatus]:
        """Return the leaves, one by one; of thousands not in one turn of the loop."""
        of = (self.learned_at, self.is_current)
        known = self._rows
        if known is None or known[0] != of:
            rows: list[LeafStatus] = []
            async for some in slices(self.told.leaves):
                rows += map(self._row, some)
            known = self._rows = (of, rows)
            await asyncio.sleep(0)
        return known[1]

    def _row(self, leaf: Leaf) -> LeafStatus:
        return LeafStatus(
            name=self.name + MARK + leaf.name,
            region=self.name,
            layer=leaf.layer,
            driver=leaf.driver,
            state=leaf.state,
            reason=leaf.reason,
            delayed=leaf.delayed,
            oldest_delayed_s=self._oldest_s(leaf),
            learned_at=round(self.learned_at - leaf.age_s, 3),
            current=self.is_current and not leaf.age_s,
            groups=leaf.groups,
        )

    def seen_from_above(self, groups: Sequence[str]) -> list[Leaf]:
        """Return the leaves as they are told to the engine above this one; *groups* are of the child."""
        gone_s = 0.0 if self.is_current else round(max(1.0, time.monotonic() - self._learned))
        return [
            msgspec.structs.replace(
                leaf,
                name=self.name + MARK + leaf.name,
                age_s=leaf.age_s + gone_s,
                groups=[*leaf.groups, *groups],
            )
            for leaf in self.told.leaves
        ]


class NamesBelow:
    """The names below all children, for tasks that come in; see `engine.intake.naming`.

    Args:
        censuses: by the names of the children.
    """

    def __init__(self, censuses: Mapping[str, Census]) -> None:
        self._censuses = censuses

    def __repr__(self) -> str:
        return f"<NamesBelow [{len(self._censuses)} regions]>"

    @property
    def changes(self) -> int:
        """Another number when a child tells something new, begins to answer or ends."""
        return hash(tuple([(census.changes, census.is_current) for census in self._censuses.values()]))

    def below(self, region: str) -> Told:
        """Return what is known of one."""
        return self._censuses[region].names
