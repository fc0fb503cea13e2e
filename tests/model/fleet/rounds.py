"""Rounds of storms, each with the next seed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.model.figures import Figures
from tests.model.fleet.broken import BROKEN
from tests.model.fleet.network import Network, needs, run_inside
from tests.model.fleet.servers import Servers
from tests.model.fleet.storm import Storm
from tests.model.fleet.timetable import FAULTS, draw
from tests.rigs.engine_process import ROOT
from tests.rigs.memory import MEMORY

if TYPE_CHECKING:
    from collections.abc import Sequence

_STORM_S: Final = 40.0
_STORM_MIN_S: Final = 10.0
_BROKEN_ROUNDS: Final = 6
_SHOWN: Final = 5
_LOCK: Final = "requirements.lock"


def begin(argv: Sequence[str], old: str | None) -> int:
    """Run *argv* in a network of its own, with engines of another version beside; return its exit code.

    Args:
        argv: the command.
        old: revision of that version; empty: none; None: the last release, when it needs the same packages.
    """
    if missing := needs():
        sys.exit(f"three engines on a network of their own: {missing}")
    with tempfile.TemporaryDirectory(prefix="purgeline-old-") as folder:
        revision = last_release() if old is None else old
        if revision and checkout_of(revision, Path(folder), installs=old is not None):
            return run_inside([*argv, "--checkout", folder])
        if revision:
            print(f"{revision} needs other packages; --old {revision} installs them", flush=True)
        return run_inside(argv)


def go_on(topology: str, *, number: int, minutes: float, faults: frozenset[str], old: Path | None) -> int:
    """Make rounds for so many minutes; return 0 when no rule was broken, otherwise 1."""
    network, figures = inside(), Figures()
    until = time.monotonic() + minutes * 60
    while (left_s := until - time.monotonic()) > 0:
        seconds = min(_STORM_S, max(_STORM_MIN_S, left_s * 0.6))
        found = one(topology, network, figures, number=number, faults=faults, old=old, seconds=seconds)
        seen = figures.seen
        said = f"{len(found)} rules broken" if found else "nothing found"
        said += f", lost {seen['lost']}, falsely done {seen['falsely done']}"
        print(f"seed {number}: {said}; so far {figures}", flush=True)
        if found:
            return 1
        number += 1
    return 0


def inside() -> Network:
    """Return the network that this process runs in, which ends in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the first process of a name space ignores it
    return Network()


def rules_of(topology: str) -> list[str]:
    """Return the rules that are broken on a topology."""
    return [name for name, broken in BROKEN.items() if broken.topology == topology]


def find_broken(topology: str, rules: Sequence[str], *, number: int) -> int:
    """Break each of *rules*, and find that; return how many were not found."""
    network, missed = inside(), 0
    for name in rules:
        broken = BROKEN[name]
        found: list[str] = []
        rounds = 0
        while not found and rounds < _BROKEN_ROUNDS:
            found = one(topology, network, Figures(), number=number + rounds, faults=broken.faults, old=None,
                        seconds=25.0, broken=name)  # fmt: skip
            rounds += 1
        missed += not found
        said = found[0].partition("\n")[0][:200] if found else "not found"
        print(f"{broken.rule}: {rounds} rounds: {said}", flush=True)
    return missed


def one(
    topology: str,
    network: Network,
    figures: Figures,
    *,
    number: int,
    faults: frozenset[str] = FAULTS,
    seconds: float = _STORM_S,
    old: Path | None = None,
    broken: str = "",
) -> list[str]:
    """Make one round; return what was broken, which is printed too, with all that led to it."""
    table = draw(number, topology, faults - (frozenset() if old else {"other version"}), seconds)
    figures.runs += 1
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)

        async def run() -> Storm:
            storm = Storm(table, network, servers, folder, figures, seconds=seconds, old=old, broken=broken)
            try:
                await storm.run()
            finally:
                await storm.close()
                (folder / "trace").write_text("\n".join(storm.trace))
            return storm

        with Servers(topology, folder, network) as servers:
            try:
                storm = asyncio.run(run())
            except BaseException:
                print(f"the logs are kept: {kept(folder, number)}", flush=True)
                raise
            found = storm.rules.found
            figures.violations += len(found)
            figures.steps += sum(map(len, (*table.engine_tracks, table.redis_track, table.cache_track)))
            if found and not broken:
                (folder / "broken").write_text("\n".join(found))
                for what in sorted(found, key=lambda what: "was never" not in what)[:_SHOWN]:
                    print(f"seed {number}: {what}\n")
                print(f"{servers.try_to_tell()}\nthe logs are kept: {kept(folder, number)}", flush=True)
            elif figures.again["unexplained"]:
                print(*[line for line in storm.trace if "unexplained" in line][:_SHOWN], sep="\n")
                print(f"the logs are kept: {kept(folder, number)}", flush=True)
            return found


def kept(folder: Path, number: int) -> Path:
    """Copy what a round left to a folder that stays; return that."""
    kept = Path(tempfile.mkdtemp(prefix=f"purgeline-model-{number}-"))
    shutil.copytree(
        folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.aof", "*.rdb", "*.sock")
    )
    return kept


def last_release() -> str:
    """Return the revision of the version before, or one some commits ago; empty: none is known."""
    for words in (["describe", "--tags", "--abbrev=0"], ["rev-parse", "--verify", "-q", "HEAD~20"]):
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


def checkout_of(revision: str, folder: Path, *, installs: bool) -> bool:
    """Put a revision into *folder*, with the environment of this checkout when it needs the same packages.

    Args:
        revision: as git knows it.
        folder: an empty one.
        installs: make an environment when it needs others; otherwise the answer is False then.
    """
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        sys.exit(f"--old {revision}: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    environment = folder / ".venv"
    if (folder / _LOCK).read_bytes() == (ROOT / _LOCK).read_bytes():
        environment.symlink_to(Path(sys.executable).parent.parent)
    elif not installs:
        return False
    else:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "-q", "--require-hashes", "-r", _LOCK]
        subprocess.run(pip, cwd=folder, check=True)
    return True
