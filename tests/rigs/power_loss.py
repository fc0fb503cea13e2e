"""Power cuts: what was answered 202 is there afterwards, whatever the disk forgot.

An engine (or its Redis) works under strace; one of two nodes is away, so tasks settle, wait in the journal
and wait in delay queues. Then its power is cut, at as many fsyncs as are asked for: the disk is restored as
of the moment before the fsync was through (`forgetful_disk`), with all that was not synced gone, or with some
of it there in any order. The store is opened on that as an engine opens it, and everything that a client had
been answered 202 before that moment has to be there (`after_power_loss`). Some of the cuts are followed by a
whole engine, with all nodes back, that has to bring every one of these tasks to its end.

``python -m tests.rigs.power_loss --store sqlite --cuts 300``, ``--store redis --fsync always``.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.errors import EngineError
from release.lab.caches import free_port
from tests.fakes.log_cache import LogCache
from tests.rigs.after_power_loss import REGIONS, UP, Answered, RedisLeft, SqliteLeft, tables, work_through
from tests.rigs.cluster_load import SITE, Task
from tests.rigs.engine_process import EngineProcess
from tests.rigs.forgetful_disk import ForgetfulDisk, Left
from tests.rigs.redis_servers import RedisServer
from tests.rigs.syscalls import FileCalls, has_ended, traced
from tests.waiting import wait_until

_MAPPED = ("-shm", "underway")  # written through memory; neither has to outlive the machine
_FIRST = 8  #: fsyncs of a first start, about
_SHOWN = 10


@dataclass(kw_only=True)
class Plan:
    """What a run does."""

    store: str = "sqlite"
    cuts: int = 300
    seconds: float = 10.0  #: of load
    workers: int = 0  #: under a supervisor; 0: one process without
    fsync: str = "always"  #: of Redis
    whole: int = 5  #: cuts after which a whole engine works
    clients: int = 4
    pause_s: float = 0.0  #: of a client between two tasks
    targets: int = 40  #: of a task, at the most
    seed: int = 1
    lying: bool = False  #: the disk syncs nothing; everything has to be found missing


class Cut(NamedTuple):
    """A moment at which the power goes: before the fsync of this number is through, or after the last one."""

    sync: int
    left: Left
    is_whole: bool


@dataclass
class Report:
    """What came of a run."""

    answered: int = 0
    syncs: int = 0
    cuts: Counter[str] = field(default_factory=Counter)  #: by what the disk had left
    whole: int = 0
    bad_cuts: int = 0
    missing: list[str] = field(default_factory=list)
    most_missing: int = 0
    oldest_missing_s: float = 0.0  #: before its cut
    repaired: int = 0  #: times that Redis did not start without redis-check-aof

    @property
    def is_good(self) -> bool:
        """Whether nothing was missing, and something could have been."""
        return bool(self.answered and self.cuts) and not self.bad_cuts

    def __str__(self) -> str:
        lines = [
            f"answered 202: {self.answered}; fsyncs {self.syncs}",
            f"power cuts {self.cuts.total()}, left of what was not synced: {dict(self.cuts)}",
            f"worked through by a whole engine: {self.whole}",
            f"cuts after which something is missing: {self.bad_cuts}",
        ]
        if self.repaired:
            lines.append(f"Redis started only after redis-check-aof --fix: {self.repaired}")
        if self.bad_cuts:
            lines.append(
                f"at most {self.most_missing}, answered {self.oldest_missing_s:.2f} s before the cut"
            )
        return "\n".join(lines + [f"missing: {text}" for text in self.missing[:_SHOWN]])


class Load:
    """Clients that hand tasks in and note each 202."""

    def __init__(self, port: int, plan: Plan) -> None:
        self.answered: list[Answered] = []
        self._port = port
        self._plan = plan
        self._callback = f"http://127.0.0.1:{free_port()}/told"  # nobody listens
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._next = 0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(plan.clients)]

    def run(self, meanwhile: Callable[[], None]) -> None:
        """Hand in for the plan's time; *meanwhile* is called at half of it."""
        for thread in self._threads:
            thread.start()
        time.sleep(self._plan.seconds / 2)
        meanwhile()
        time.sleep(self._plan.seconds / 2)
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        with contextlib.closing(connection):
            self._hand_in(connection)

    def _hand_in(self, connection: http.client.HTTPConnection) -> None:
        while not self._is_over.wait(self._plan.pause_s):
            number = next(self._numbers)
            count = 1 + number % self._plan.targets
            with self._lock:
                task = Task(f"cut-{number}", range(self._next, self._next + count))
                self._next += count
            has_callback = number % 3 == 0
            extra = {"nodes": [UP], "callback": self._callback} if has_callback else {}
            targets = [f"http://{SITE}/{one}" for one in task.numbers]
            try:
                body = json.dumps({"id": task.id, "targets": targets, **extra})
                connection.request("POST", "/v1/engine/task", body)
                response = connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException):  # a worker of before a reload
                connection.close()
                continue
            if response.status == 202:
                at = time.time()
                task = task._replace(total=json.loads(text)["total"])
                self.answered.append(Answered(task, at, has_callback))
            elif response.status != 503:
                raise AssertionError((response.status, text))


class Run:
    """One run: a load is recorded, then the power is cut as often as the plan says.

    Args:
        plan: what is done.
        folder: for everything; nothing is left running in it.
        say: told what goes on.
    """

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
        self.plan = plan
        self._folder = folder
        self._disk = folder / "disk"  # that forgets
        self._log = folder / "calls"
        self._say = say
        self._began_at = 0.0
        self._ended_at = 0.0  # whatever was answered had been answered
        self._answered: list[Answered] = []
        self._rng = random.Random(plan.seed)
        self.report = Report()
        self.log = ""  #: of the engine's start

    def check(self, *, is_lying: bool = False) -> Report:
        """Cut the power of what was recorded, and judge.

        Args:
            is_lying: the disk syncs nothing at all.
        """
        calls = self._calls()
        syncs = sum(call.kind == "sync_ends" and call.at > self._began_at for call in calls)
        self.report = Report(answered=len(self._answered), syncs=syncs)
        self._say(f"answered {len(self._answered)}, {syncs} fsyncs")
        self._cut(self._chosen(syncs), ForgetfulDisk(self._disk, is_lying=is_lying))
        return self.report

    # Recording

    def record(self) -> None:
        """Have an engine work for the time of the plan."""
        self._disk.mkdir()
        with contextlib.ExitStack() as stack:
            up = stack.enter_context(LogCache(UP))
            away = f"http://127.0.0.1:{free_port()}"
            is_redis = self.plan.store == "redis"
            engine = self._on_redis(stack, away, up) if is_redis else self._on_files(away, up)
            stack.enter_context(engine)
            self.log = engine.log()
            self._began_at = time.time() if is_redis else 0.0
            load = Load(engine.port, self.plan)
            load.run(self._meanwhile)
            self._ended_at = time.time()
            engine.kill()
        wait_until(partial(has_ended, self._log), what="the log being written")
        self._answered = load.answered

    def _on_files(self, away: str, up: LogCache) -> EngineProcess:
        home = self._folder / "engine"
        home.mkdir()
        engine = EngineProcess(
            home,
            tables(away, up.url(0)),
            prefix=traced(self._log),
            workers=self.plan.workers,
            data_dir=str(self._disk / "var"),
        )

        def reload() -> None:
            if self.plan.workers and engine.process is not None:
                engine.process.send_signal(signal.SIGHUP)

        self._meanwhile: Callable[[], None] = reload
        return engine

    def _on_redis(self, stack: contextlib.ExitStack, away: str, up: LogCache) -> EngineProcess:
        server = RedisServer(self._folder, name=self._disk.name, fsync=self.plan.fsync)
        server.prefix = traced(self._log)
        stack.enter_context(server)
        home = self._folder / "engine"
        home.mkdir()
        store = f'[store]\nurl = "{server.url}"\nregion_count = {REGIONS}\n'
        self._meanwhile = lambda: server.ask("BGREWRITEAOF") and None
        return EngineProcess(home, tables(away, up.url(0), store), name="traced")

    # Cutting

    def _calls(self) -> FileCalls:
        return FileCalls(self._log, self._disk, mapped=_MAPPED)

    def _chosen(self, syncs: int) -> list[Cut]:
        """Return the cuts by time: those of the first start, then any in random order, again if need be.

        One more comes at the end, with nothing left: all is answered, and a disk that lies has none of it.
        """
        kinds = itertools.cycle(self._left())
        places = [number for number in range(min(_FIRST, syncs)) for _ in range(2)][: self.plan.cuts // 2]
        while len(places) < self.plan.cuts:
            places += self._rng.sample(range(syncs), min(syncs, self.plan.cuts - len(places)))
        cuts = [
            Cut(sync, next(kinds), number < self.plan.whole) for number, sync in enumerate(reversed(places))
        ]
        return [*sorted(cuts, key=lambda cut: cut.sync), Cut(syncs, Left.NOTHING, is_whole=False)]

    def _left(self) -> list[Left]:
        """Return what cuts leave: Redis itself does not start on a folder whose changes changed places."""
        if self.plan.store == "sqlite":
            return [Left.NOTHING, Left.SOME]
        return [Left.NOTHING, Left.ORDERED] if self.plan.fsync == "always" else [Left.NOTHING]

    def _cut(self, cuts: Sequence[Cut], disk: ForgetfulDisk) -> None:
        left = iter(cuts)
        cut = next(left, None)
        for number, at in self._moments(disk):
            while cut is not None and cut.sync == number:
                self._judge(cut, disk, at)
                cut = next(left, None)

    def _moments(self, disk: ForgetfulDisk) -> Iterator[tuple[int, float]]:
        """Yield the number and the time of each fsync, with the disk as of the moment before, and the end."""
        number = 0
        is_ready = not self._began_at
        for call in self._calls():
            if not is_ready and call.at > self._began_at:
                disk.sync_all()
                is_ready = True
            if is_ready and call.kind == "sync_ends":
                yield number, call.at
                number += 1
            disk.apply(call)
        yield number, self._ended_at

    def _judge(self, cut: Cut, disk: ForgetfulDisk, at: float) -> None:
        report = self.report
        answered = [one for one in self._answered if one.at < at]
        report.cuts[cut.left.value] += 1
        place = self._folder / "restored"
        disk.restore(place, cut.left, self._rng)
        left = RedisLeft(place) if self.plan.store == "redis" else SqliteLeft(place, self.plan.workers)
        try:
            missing = left.look().missing(answered)
        except EngineError as exc:
            missing = [f"it does not start: {exc}"]
        if cut.is_whole and not missing:
            home = Path(tempfile.mkdtemp(prefix="after-", dir=self._folder))
            missing = work_through(left, home, answered)
            report.whole += 1
        report.repaired += left.repaired
        if missing:
            gone = {text.partition(":")[0] for text in missing}
            first = min((one.at for one in answered if one.task.id in gone), default=at)
            report.bad_cuts += 1
            report.most_missing = max(report.most_missing, len(missing))
            report.oldest_missing_s = max(report.oldest_missing_s, at - first)
            text = f"cut at fsync {cut.sync} with {cut.left.value} left, {len(missing)} missing: {missing[0]}"
            report.missing.append(text)
            self._say(text)
        shutil.rmtree(place)


def main(argv: Sequence[str]) -> int:
    """Make one run and print it; the exit code is 1 when something is missing."""
    parser = argparse.ArgumentParser(prog="tests.rigs.power_loss", description=__doc__)
    plan = Plan()
    for name, value in vars(plan).items():
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        if name == "store":
            parser.add_argument(flag, choices=("sqlite", "redis"), default=value)
        elif name == "fsync":
            parser.add_argument(flag, choices=("always", "everysec", "no"), default=value)
        elif isinstance(value, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, dest=name, type=type(value), default=value)
    plan = Plan(**vars(parser.parse_args(argv)))
    with tempfile.TemporaryDirectory(prefix="purgeline-power-") as folder:
        run = Run(plan, Path(folder), say=lambda text: print(text, flush=True))
        run.record()
        report = run.check(is_lying=plan.lying)
    print(report)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
