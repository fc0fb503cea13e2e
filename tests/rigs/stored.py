"""Stored data of a version, and ``python -m tests.rigs.stored CHECKOUT FOLDER``, which records it.

The engine of *CHECKOUT* (its ``.venv`` made) is given tasks of every kind, some of which can't be delivered,
and is killed. What its store holds then is copied to *FOLDER*, with ``tasks.json``: what is to become of each
task once its nodes are back. A version's data is recorded once, at its last commit, and every version
after it has to read it: see test_stored_data.py.
"""

import argparse
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fakes.node import Act, FakeNode, always, answer
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table, layer_tables
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

YEARS: dict[str, Any] = {
    "retention_days": 3650,
    "delay_ttl_s": 315_360_000,
}  # what was recorded never gets too old to read
LAYERS = {"parent-1": "parent", "up": "edge", "down": "edge", "hangs": "edge", "refuses": "edge"}
FAR = "http://img.example.com"


_NOT_KEPT = shutil.ignore_patterns("*-shm", "*-wal", "*.lock", "run", "underway", "receipt-*")
_PACK = """
from pathlib import Path
from engine.store.history import HistoryLimits
from engine.store.sqlite.store import SqliteStore
store = SqliteStore(Path("var/tasks-0.db"), history=HistoryLimits(3650 * 86400, 2**40))
store.open()
store.history._pack()
store.close()
"""


def has_history(checkout: Path) -> bool:
    """Tell whether the engine of *checkout* keeps a history."""
    return (checkout / "engine/history").is_dir()


def node_tables(caches: dict[str, FakeNode]) -> str:
    """Return the tables of layers and nodes; ``down`` is below ``parent-1``."""
    below: dict[str, Any] = {"down": {"parents": ["parent-1"]}}
    return layer_tables("parent", "edge") + "".join(
        fake_table(cache.url, name=name, layer=LAYERS[name], **below.get(name, {}))
        for name, cache in caches.items()
    )


def record(checkout: Path, folder: Path, *, is_redis: bool) -> None:
    """Record what the engine of *checkout* stores, into *folder*."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        caches = {name: FakeNode() for name in LAYERS}
        caches["hangs"].script = always(Act.HANG)
        caches["refuses"].script = always(answer(400))
        for cache in caches.values():
            cache.start()
        for away in ("down", "parent-1"):
            caches[away].stop()
        tables = node_tables(caches) + '[[callback]]\nhost = "127.0.0.1"\n'
        if checkout != ROOT:
            tables = tables.replace('evidence = "any"\n', "")  # an older engine does not know it
        redis = RedisServer(home)
        if is_redis:
            redis.start()
            tables = f'[store]\nurl = "{redis.url}"\n' + tables
        settings = {**YEARS, "history_days": 3650} if has_history(checkout) else YEARS
        engine = EngineProcess(
            home, tables, checkout=checkout, name="recorded", due_s=1, drain_timeout_s=1, **settings
        )
        try:
            engine.start()
            expected = _hand_in(engine)
            engine.kill()
            (folder / "tasks.json").write_text(json.dumps(expected, indent=1) + "\n")
            if has_history(checkout) and not is_redis:  # there it stays as it was written, here it is packed
                subprocess.run([checkout / ".venv/bin/python", "-c", _PACK], cwd=home, check=True)
            if is_redis:
                redis.ask("SAVE")
                shutil.copy(redis.folder / "dump.rdb", folder)
            else:
                for path in (home / "var").glob("*.db"):  # what the log of writes has goes into the file
                    with contextlib.closing(sqlite3.connect(path)) as connection:
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                shutil.copytree(home / "var", folder / "var", ignore=_NOT_KEPT)
        finally:
            if engine.is_up:
                engine.kill()
            redis.kill()
            for cache in caches.values():
                cache.stop()


def _hand_in(engine: EngineProcess) -> dict[str, dict[str, object]]:
    """Hand tasks in; return, by id, the state each is in now (settled) or is to reach, and its document."""
    closed = "http://127.0.0.1:9/told"  # the port of the protocol "discard": nobody is there
    settled = {
        "done": engine.submit([f"{FAR}/done.jpg"], id="done", nodes=["up"]),
        "fetched": engine.submit([f"{FAR}/f.jpg"], id="fetched", nodes=["up"], prefetch=True),
        "failed": engine.submit([f"{FAR}/failed.jpg"], id="failed", nodes=["refuses"]),
    }
    for task_id in settled.values():
        engine.wait_for(task_id)
    waiting = [
        engine.submit(
            [f"http://www.example.com/{n}.jpg" for n in range(5)], id="urls", nodes=["down"], callback=closed
        ),
        engine.submit([f"{FAR}/soft.jpg"], id="soft", nodes=["down"], soft=True),
        engine.submit([f"{FAR}/below/"], id="prefix", kind="prefix", nodes=["down"]),
        engine.submit([f"{FAR}/a[0-9]+"], id="regex", kind="regex", nodes=["down"]),
        engine.submit(["img.example.com"], id="host", kind="host", nodes=["down"]),
        engine.submit(
            [{"host": "img.example.com", "key": "product-7"}], id="key", kind="key", nodes=["down"]
        ),
        engine.submit([f"{FAR}/again.jpg"], id="again", nodes=["down"], prefetch=True),
        engine.submit([f"{FAR}/only.jpg"], id="only", action="prefetch", nodes=["down"]),
        engine.submit([f"{FAR}/behind.jpg"], id="behind", nodes=["parent-1", "down"]),
        engine.submit([f"{FAR}/all-{n}.jpg" for n in range(3)], id="everywhere", nodes=["up", "down"]),
    ]
    for task_id in waiting:
        engine.wait_for(task_id, "partial")
    cancelled = engine.submit([f"{FAR}/cancelled.jpg"], id="cancelled", nodes=["down"])
    engine.wait_for(cancelled, "partial")
    assert engine.request("DELETE", f"/v1/engine/task/{cancelled}")[0] == 200
    engine.wait_for(cancelled, "cancelled")
    sent = [
        engine.submit([f"{FAR}/sent-{n}.jpg" for n in range(4)], id="sent", nodes=["hangs", "up"], due_s=600),
        engine.submit([f"{FAR}/sent.jpg"], nodes=["hangs"], due_s=600),
    ]
    wait_until(lambda: engine.node("hangs")["in_flight"], what="a purge being on the wire")
    expected: dict[str, dict[str, object]] = {
        task_id: {"state": state, "document": engine.task(task_id)}
        for state, task_id in (*(("done", name) for name in ("done", "fetched")), ("failed", "failed"))
    }
    expected[cancelled] = {"state": "cancelled", "document": engine.task(cancelled)}
    return expected | {
        task_id: {"state": "done", "document": engine.task(task_id)} for task_id in waiting + sent
    }


def main() -> int:
    """Record the data of a checkout's engine, on both stores."""
    parser = argparse.ArgumentParser(description="Record what the engine of a checkout stores.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    for store in ("sqlite", "redis"):
        record(args.checkout, args.folder / store, is_redis=store == "redis")
    return 0


if __name__ == "__main__":
    sys.exit(main())
