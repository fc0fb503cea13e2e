"""Fuzzes both lanes of an engine, and its doors: ``python -m tests.fuzz --cases 1000000``.

Requests that are nearly right, on both lanes: no 5xx but 503, no hang, no traceback, no growing memory,
and a good request in between is always answered soon, what the processes wait for a processor aside; the
store is in memory, where that is possible, so that it does not wait for a disk that others have, too.
Then half as many cases to both lanes at once, which must say the same. Then as many as at first to a
purge door, and to a CDNI door; of them nothing may be stored that was answered with an error. Then as many
datagrams to HTCP doors, each of which must be counted, and every answer one that a client can read. Then as
many entries and messages to a door that reads a Redis: each is a task, or set aside with its reason. Then
as many fields of cache groups, which the engine and the lines of a Varnish have to read alike. Prints the
seed, and each case that broke a rule; ``--seed`` makes the same cases again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import KINDS, run
from tests.rigs.memory import MEMORY


def main(args: list[str] | None = None) -> int:
    """Return 0 when nothing was found, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many (default 100,000)")
    parser.add_argument("--seed", type=int, help="of the cases; made and printed when it is not given")
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all", help="which fuzzer (default all)")
    parser.add_argument(
        "--answer-within-s", type=float, default=0.2, help="for good requests in between (default 0.2)"
    )
    asked = parser.parse_args(args)
    seed = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    found = 0
    cases_of = {"lanes": asked.cases // 2}
    for kind in KINDS:
        cases = cases_of.get(kind, asked.cases)
        if asked.kind not in {kind, "all"}:
            continue
        print(f"{kind}: {cases} cases, --seed {seed}", flush=True)
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            report = run(
                Path(folder),
                kind,
                seed=seed,
                cases=cases,
                answer_within_s=asked.answer_within_s,
            )
        print(report)
        print(*report.faults, sep="\n")
        found += len(report.faults)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
