"""The rules of a tree: what the root says of a task, beside what came to the caches below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.model.fleet.storm import FleetRules
from tests.model.rules import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.tree.caches import RealCache


@dataclass(eq=False, repr=False)
class TreeRecord(Record):
    """A task of the root; its nodes are regions."""

    leaves: tuple[str, ...] = field(default=())  #: whose caches it has to come to

    @property
    def kind(self) -> str:
        return "url"  # as of every task of a tree


class TreeRules(FleetRules):
    """Checks the documents of the root, and each ack in them.

    Args:
        caches: by leaf.
        trace: what happened so far.
        was_there: whether a leaf was known to its region from a time on until now.
    """

    def __init__(
        self, caches: dict[str, RealCache], trace: list[str], was_there: Callable[[str, float], bool]
    ) -> None:
        super().__init__({}, trace)
        self._real = caches
        self._was_there = was_there

    def leaves_of(self, record: Record) -> list[str]:
        """Return whose caches a task has to have come to by now."""
        assert isinstance(record, TreeRecord)
        return [leaf for leaf in record.leaves if self._was_there(leaf, record.sent_at)]

    def _check_remarks(self, record: Record, doc: dict[str, Any]) -> None:
        """Nothing of the tree is skipped, and no purge is soft."""

    def _check_proof(self, record: Record) -> None:
        """Refuse an ack of something that a cache was not asked for."""
        for leaf in self.leaves_of(record):
            by_url = self._real[leaf].by_url
            for url in record.body["targets"]:
                if not any(at >= record.sent_at for at in by_url.get(url, ())):
                    self.fail(f"{leaf} was never purged of {url} for {record}")

    def check_fresh(self, record: Record, leaf: str, url: str, body: bytes, wanted: str) -> None:
        """Refuse a cache that serves what a purge, which is done, should have dropped."""
        self.checks += 1
        if body and body.decode() != wanted:
            self.fail(f"{leaf} serves {body!r} for {url}, not {wanted!r}, in spite of {record}")

    def check_end(self, *, gone: set[str], changed: set[str]) -> None:
        """Refuse tasks that are nowhere; one that names a leaf which its region did not know has failed."""
        excused = {
            name: record
            for name, record in self.records.items()
            if "nodes" in record.body
            and record.document.get("state") == "failed"
            and not self.leaves_of(record)
            and any("is not configured" in error["reason"] for error in record.document["errors"])
        }
        for name in excused:
            del self.records[name]
        super().check_end(gone=gone, changed=changed)
        self.records.update(excused)
