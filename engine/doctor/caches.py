"""The caches: whether each can be reached, and shows that its purges are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.doctor.check import Check, Verdict, unknown
from engine.nodes import findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GOOD: Final = frozenset({findings.Verdict.PROVEN, findings.Verdict.TRUSTED})


def nodes(found: Mapping[str, findings.Finding], config: str) -> Iterator[Check]:
    """Yield a check of all nodes, and one of each that is not reachable and proven.

    Args:
        found: name of the node → what an inspection came to.
        config: path of the configuration, for the command that says more.
    """
    if not found:
        yield unknown("nodes", "the configuration has no [[node]]")
        return
    bad = {name: finding for name, finding in found.items() if finding.verdict not in _GOOD}
    value, limit = f"{len(found) - len(bad)} proven", str(len(found))
    yield Check("nodes", Verdict.FAIL if bad else Verdict.OK, value, limit)
    for name, finding in bad.items():
        remedy = f"purgeline check-nodes --config {config} --node {name}"
        if finding.verdict is findings.Verdict.UNREACHABLE:
            remedy = "start the cache, or mend the way there or its url; what is for it waits meanwhile"
        yield Check(f"node {name}", Verdict.FAIL, str(finding.verdict), "proven", finding.why, remedy)
