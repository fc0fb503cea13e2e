"""Engines with one rule broken, to see that a run finds it: patches at the places where rules are kept."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import msgspec

from engine.delivery.dispatch import Dispatch
from engine.intake import topology
from engine.nodes.evidence import Whose
from engine.recovery.rows import ReplayRows
from engine.tasks.words import Operation, State

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Broken:
    """A rule, how it is broken, and the faults that show it."""

    rule: str
    patches: tuple[tuple[str, Any], ...]  #: what is replaced, and by what
    faults: frozenset[str]
    is_rare: bool = False  #: a hundred runs do not show it
    is_dear: bool = False  #: it takes seconds to show
    seed: int = 1  #: with which a search finds it soon

    def __str__(self) -> str:
        return self.rule

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the rule for a while."""
        with ExitStack() as stack:
            for target, new in self.patches:
                stack.enter_context(mock.patch(target, new))
            yield


async def _none_replayed(*args: object) -> int:
    return 0


def _park_behind(dispatch: Any, share: Any, ready: list[int], parents: list[Any]) -> list[int]:
    return ready


def _done_when_expired(chunk: Any, rows: list[Any]) -> list[Any]:
    fresh = [row for row in rows if row.parked_at >= chunk._now - 20]
    chunk.done_rows += [row for row in rows if row not in fresh]
    return fresh


def _always(*_: object) -> bool:
    return True


def _never(*_: object) -> bool:
    return False


def _all_below(store: Any, node: str, *_: object) -> Any:
    return store.oldest_parked(node, 1000, False)


def _first_node(stored: dict[str, Any], name: str) -> Any:
    return stored["nodes"][0]


def _never_postponed(node: Any, operation: Any, target: str) -> bool:
    return False


def _ack_unanswered(node: Any, channel: Any, connection: Any, items: list[Any]) -> None:
    node._outcomes.acked(items)


def _state_without_cancelled(task: Any, *, is_due: bool) -> State:
    shares = task.shares
    if sum(share.delayed_count for share in shares):
        return State.PARTIAL if is_due else State.RUNNING
    return State.FAILED if sum(share.failed_count for share in shares) else State.DONE


def _own_always(*_: object) -> Whose:
    return Whose.OWN


def _planned_anew(rows: Any, record: Any, key: Any, progress: Any, plan: bytes, **left_s: float) -> None:
    _replay(rows, msgspec.structs.replace(record, plan=b""), key, progress, b"", **left_s)


_replay: Final = ReplayRows._replay


def _counts_at_once(beside: Any, acked: list[Any], since: float, acked_at: float | None = None) -> list[Any]:
    return acked


def _refused_for_good(node: Any, item: Any, outcome: Any, answer: Any) -> None:
    node._outcomes.failed(item, "refused")


def _probe_at_root(config: Any, nonce: str) -> str:
    request = (
        f"GET /.purgeline-probe HTTP/1.1\r\nHost: purgeline-probe.invalid\r\nPurgeline-Nonce: {nonce}\r\n"
    )
    return f"{request}Connection: close\r\n\r\n"


_park_behind_parents: Final = Dispatch._park_behind
_part: Final = topology._part
_steps: Final = topology.Topology._steps


def _prefetch_beside(dispatch: Any, share: Any, ready: list[int], parents: list[Any]) -> list[int]:
    if share.operation is not Operation.PREFETCH:
        return _park_behind_parents(dispatch, share, ready, parents)
    dispatch.park(share, ready, "its node waits")
    return []


def _refused_whole(chosen: Any, action: str, kind: str, *, skip: bool, host_pattern: bool) -> Any:
    return _part(chosen, action, kind, skip=False, host_pattern=host_pattern)


def _skipped_unsaid(chosen: Any, action: str, kind: str, *, skip: bool, host_pattern: bool) -> Any:
    return _part(chosen, action, kind, skip=skip, host_pattern=host_pattern)[0], ()


def _soft_at_parents(plans: Any, chosen: Any, action: str, kind: str, *, soft: bool, below: Any) -> Any:
    return tuple(
        msgspec.structs.replace(step, operation=topology._operation_at(node, action, kind, soft=soft))
        for step, node in zip(
            _steps(plans, chosen, action, kind, soft=soft, below=below), chosen, strict=True
        )
    )


def _no_notes(*_: object, **__: object) -> tuple[()]:
    return ()


_NODE: Final = "engine.nodes.node.Node"

BROKEN: Final = (
    Broken(
        "a purge that was passed on does not count",
        (
            ("engine.nodes.judge.Judge.whose", _own_always),
            ("engine.nodes.judge.Judge.owns_run", _always),
            ("engine.nodes.judge.Judge.knows", _always),
        ),
        frozenset({"forward"}),
    ),
    Broken(
        "a task goes on as it was accepted",
        (("engine.recovery.rows.ReplayRows._replay", _planned_anew),),
        frozenset({"hang", "slow", "crash", "node-removed"}),
        seed=2,
    ),
    Broken(
        "a purge beside an own prefetch is sent again",
        (("engine.nodes.beside.Beside.counted", _counts_at_once),),
        frozenset({"prefetch-beside-purge", "origin-slow", "slow"}),
        is_dear=True,
    ),
    Broken(
        "what is refused waits",
        ((f"{_NODE}._not_acked", _refused_for_good),),
        frozenset({"refuse", "refuse-bans"}),
        seed=2,
    ),
    Broken(
        "a node is probed as it is purged",
        (("engine.nodes.drivers.probe_text", _probe_at_root),),
        frozenset({"down", "lost"}),
        is_dear=True,
    ),
    Broken(
        "a node that answers 503 or 403 to a probe is not back",
        (
            ("engine.nodes.probe._SERVER_ERRORS", range(0)),
            ("engine.nodes.probe._NO_RETURN", frozenset()),
        ),
        frozenset({"down", "lost", "sick", "refuse"}),
        is_dear=True,
        seed=6,
    ),
    Broken(
        "a wide row that is refused stands for no others",
        (("engine.nodes.postponed.Postponed.supersedes", _always),),
        frozenset({"down", "lost", "refuse-bans"}),
        is_dear=True,
    ),
    Broken(
        "a prefetch waits for its purge in the delay queue",
        (("engine.delivery.dispatch.Dispatch._park_behind", _prefetch_beside),),
        frozenset({"down", "refuse", "prefetch-beside-purge"}),
        is_dear=True,
    ),
    Broken(
        "what a cache cannot do softly counts as hard",
        (("engine.intake.topology._notes", _no_notes),),
        frozenset({"slow"}),
    ),
    Broken(
        "a parent is purged hard",
        (("engine.intake.topology.Topology._steps", _soft_at_parents),),
        frozenset({"slow"}),
        is_rare=True,
    ),
    Broken(
        "one node that cannot does not keep others from it",
        (("engine.intake.topology._part", _refused_whole),),
        frozenset({"slow"}),
    ),
    Broken(
        "nodes that cannot are named",
        (("engine.intake.topology._part", _skipped_unsaid),),
        frozenset({"slow"}),
    ),
    Broken(
        "what a successor that died had accepted is waited for",
        (("engine.workers.peers.Peers._is_successor", _never),),
        frozenset({"reload", "worker-killed", "sick", "slow"}),
        seed=4,
    ),
    Broken(
        "the journal is replayed",
        (("engine.recovery.replay.Replay._replay_journal", _none_replayed),),
        frozenset({"down", "crash", "restart", "slow"}),
    ),
    Broken(
        "an edge's purge counts after its parent's",
        (("engine.delivery.dispatch.Dispatch._park_behind", _park_behind),),
        frozenset({"lost", "sick"}),
        seed=5,
    ),
    Broken(
        "what waited too long is not acked",
        (("engine.delivery.chunk.Chunk._without_expired", _done_when_expired),),
        frozenset({"down", "lost"}),
    ),
    Broken(
        "a request that went wrong five times is kept",
        ((f"{_NODE}.postpone", _never_postponed),),
        frozenset({"sick", "half-sick"}),
    ),
    Broken(
        "a request without an answer is sent again",
        ((f"{_NODE}.unanswered", _ack_unanswered),),
        frozenset({"cuts", "down", "hang"}),
        seed=5,
    ),
    Broken(
        "a cancelled task stays so",
        (("engine.tasks.documents.state_of", _state_without_cancelled),),
        frozenset({"down", "cancel", "slow"}),
    ),
    Broken(
        "late delivery counts for the node that did it",
        (("engine.tasks.by_node.find_node", _first_node),),
        frozenset({"down", "slow"}),
    ),
    Broken(
        "a wide row takes only what is below it along",
        (
            ("engine.store.sqlite.store.SqliteStore.parked_below", _all_below),
            ("engine.delivery.chunk.supersedes", _always),
        ),
        frozenset({"down", "lost"}),
        is_dear=True,
        seed=7,
    ),
    Broken(
        "a paused node waits",
        (("engine.nodes.pausing.pause", _never),),
        frozenset({"pause"}),
        is_dear=True,
    ),
)
