"""Runs plans of random faults for longer: ``python -m tests.model --minutes 10``.

Prints the seed of each round and what it consisted of, and what a run that broke a rule said with its plan;
``--seed`` begins there. With ``--processes`` the engine is real processes, and time is real; with
``--redis`` two engines on one Redis; with ``--redis single``, ``sentinel`` or ``cluster`` three on that,
and everything between them fails: see `tests.model.fleet`; with ``--tree`` thirteen engines and nine real
caches, and with ``--cut`` a region of them is cut off for so many seconds: see `tests.model.tree`.
``--broken`` shows that each rule that is broken on purpose is found, and when.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Final

from tests.model.broken import BROKEN
from tests.model.fleet import rounds, timetable
from tests.model.fleet.broken import BROKEN as RULES
from tests.model.fleet.network import is_inside
from tests.model.plans import FAULTS
from tests.model.search import ProcessRuns, Runs, VirtualRuns, search
from tests.model.tree import rounds as tree
from tests.model.tree.broken import BROKEN as TREE_RULES
from tests.model.tree.timetable import FAULTS as TREE_FAULTS

_BROKEN_RUNS: Final = 1000  #: until a broken rule has to be found


def main(args: list[str] | None = None) -> int:
    """Return 0 when no rule was broken, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    parser.add_argument("--seed", type=int, help="of the first round; later ones count on from it")
    parser.add_argument("--faults", help="kinds, with commas between them (default: all)")
    parser.add_argument("--processes", action="store_true", help="real processes, sockets and time")
    parser.add_argument(
        "--redis",
        choices=["pair", *timetable.REDIS_FAULTS],
        nargs="?",
        const="pair",
        help="on a real Redis: a pair of engines, or three on a network of their own",
    )
    parser.add_argument("--tree", action="store_true", help="a root, regions, and engines with real caches")
    parser.add_argument("--cut", type=float, default=0.0, help="of a tree: a region, for so many seconds")
    parser.add_argument("--old", help="revision of the engines that run beside (default: the last release)")
    parser.add_argument("--checkout", type=Path, help=argparse.SUPPRESS)  # of that revision, with its .venv
    parser.add_argument("--broken", action="store_true", help="break each rule, and find that")
    parser.add_argument("--rules", help="which are broken, of those between engines (default: all)")
    asked = parser.parse_args(args)
    is_fleet = asked.redis not in {None, "pair"}
    known = TREE_FAULTS if asked.tree else timetable.FAULTS if is_fleet else FAULTS
    faults = frozenset(asked.faults.split(",")) if asked.faults else known
    if unknown := sorted({*(asked.rules or "").split(",")} - {"", *(TREE_RULES if asked.tree else RULES)}):
        parser.error(f"--rules: {', '.join(unknown)}: takes {', '.join(TREE_RULES if asked.tree else RULES)}")
    if unknown := sorted(faults - known):
        parser.error(f"--faults: {', '.join(unknown)}: takes {', '.join(sorted(known))}")
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names come in the same order each time
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.model", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    number = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    if asked.tree:
        return _on_a_tree(asked, faults, number)
    if is_fleet:
        return _on_a_fleet(asked, faults, number)
    if asked.broken:
        return _find_broken(1 if asked.seed is None else number)
    is_real = asked.processes or asked.redis
    with ProcessRuns(on_redis=asked.redis is not None) if is_real else VirtualRuns() as runs:
        return _go_on(runs, faults, number, asked.minutes * 60)


def _on_a_fleet(asked: argparse.Namespace, faults: frozenset[str], number: int) -> int:
    if not is_inside():
        return rounds.begin(
            [sys.executable, "-m", "tests.model", *sys.argv[1:]], "" if asked.broken else asked.old
        )
    if not asked.broken:
        return rounds.go_on(
            asked.redis, number=number, minutes=asked.minutes, faults=faults, old=asked.checkout
        )
    rules = asked.rules.split(",") if asked.rules else rounds.rules_of(asked.redis)
    return rounds.find_broken(asked.redis, rules, number=1 if asked.seed is None else number)


def _on_a_tree(asked: argparse.Namespace, faults: frozenset[str], number: int) -> int:
    if not is_inside():
        return tree.begin([sys.executable, "-m", "tests.model", *sys.argv[1:]])
    if asked.broken:
        rules = asked.rules.split(",") if asked.rules else list(TREE_RULES)
        return tree.find_broken(rules, number=1 if asked.seed is None else number)
    if asked.cut:
        return tree.cut(asked.cut, number=number)
    return tree.go_on(number=number, minutes=asked.minutes, faults=faults)


def _go_on(runs: Runs, faults: frozenset[str], number: int, for_s: float) -> int:
    until = time.monotonic() + for_s

    def is_over() -> bool:
        return time.monotonic() > until

    while not is_over():
        found = search(runs, faults, number=number, count=runs.per_round, is_over=is_over)
        if found is not None:
            plan, violation = found
            print(f"seed {number}: a rule is broken by\n{plan}\n{violation}\n{runs.figures}")
            return 1
        print(f"seed {number}: nothing found; so far {runs.figures}", flush=True)
        number += 1
    return 0


def _find_broken(number: int) -> int:
    missed = 0
    for broken in BROKEN:
        with VirtualRuns() as runs, broken.applied():
            found = search(runs, broken.faults, number=number, count=_BROKEN_RUNS)
        missed += found is None
        said = "not found" if found is None else str(found[1]).partition("\n")[0]
        print(f"{broken}: {runs.figures.runs} runs: {said[:150]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
