"""Runs plans of random faults for longer: ``python -m tests.model --minutes 10``.

Prints the seed of each round, and what a run that broke a rule said, with its plan; ``--seed`` begins there.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time

from tests.model.plans import FAULTS, Plan
from tests.model.search import search

_RUNS: int = 200  #: in a round


def main(args: list[str] | None = None) -> int:
    """Return 0 when no rule was broken, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    parser.add_argument("--seed", type=int, help="of the first round; later ones count on from it")
    parser.add_argument("--faults", default=",".join(sorted(FAULTS)), help="kinds, with commas between them")
    asked = parser.parse_args(args)
    unknown = sorted(set(asked.faults.split(",")) - FAULTS)
    if unknown:
        parser.error(f"--faults: {', '.join(unknown)}: takes {', '.join(sorted(FAULTS))}")
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names come in the same order each time
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.model", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    number = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    until = time.monotonic() + asked.minutes * 60
    counted = {"runs": 0, "steps": 0}

    def count(plan: Plan) -> None:
        counted["runs"] += 1
        counted["steps"] += len(plan.steps)

    while time.monotonic() < until:
        found = search(frozenset(asked.faults.split(",")), number=number, runs=_RUNS, on_run=count)
        if found is not None:
            plan, violation = found
            print(f"seed {number}: a rule is broken by\n{plan}\n{violation}")
            return 1
        print(
            f"seed {number}: nothing found; {counted['runs']} runs, {counted['steps']} steps so far",
            flush=True,
        )
        number += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
