"""Cases for a CDNI door: commands that are nearly right, and what must be so.

Every trigger that was answered 201 is kept, and no other; as many tasks are stored as the kept ones have.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from typing import TYPE_CHECKING, Final

from engine.tasks.triggers import decode
from release.lab.caches import free_port
from tests.fuzz.cases import LINES, PATHS, STARTS, TOKEN, Cases, get, request
from tests.fuzz.wire import Client, HangError
from tests.rigs.cdni import cdni_table

if TYPE_CHECKING:
    from tests.fuzz.run import Report, Run
    from tests.rigs.engine_process import EngineProcess

_HOST: Final = "http://img.example.com"
_CLIENTS: Final = 16
_CREATED: Final = re.compile(rb"HTTP/1\.1 201 [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?Location: \S+/([0-9a-f]+)\r\n")
_CDNI_STARTS: Final = (b"PATCH", b"PURGE", b"post")
_CDNI_PATHS: Final = (
    b"/triggers",
    b"/triggers/",
    b"/triggers/pending",
    b"/triggers/active",
    b"/triggers/complete",
    b"/triggers/failed",
    b"/triggers/0",
    b"/triggers/" + b"f" * 9000,
    b"/triggers/../v1/engine/tasks",
    b"/triggers/%00",
    b"/triggers?limit=1",
    b"http://h/triggers",
)
_CDNI_LINES: Final = (
    b"Accept: application/cdni",
    b"Accept: application/cdni; ptype=ci-trigger-status",
    b"Accept: application/cdni;q=0, */*",
    b"Accept: " + b"a/b," * 3000,
    b"Accept: \xff",
    b"Content-Type: application/cdni; ptype=ci-trigger-command",
    b"Content-Type: application/cdni; ptype=ci-trigger-command.v2",
    b"Content-Type: application/cdni;" + b";" * 5000,
    b"If-Match: *",
    b'If-Match: "x"',
    b"If-None-Match: *",
    b"If-None-Match: W/" + b'"' * 5000,
    b"Host: [::1",
    b"Host: dcdn.example.com:99999",
)
_CDNI_TRIGGERS: Final[tuple[dict[str, object], ...]] = (
    {"type": "purge", "content.urls": [f"{_HOST}/a.jpg", "https://img.example.com/b?c=d"]},
    {"type": "invalidate", "content.urls": [f"{_HOST}/a"], "metadata.urls": [f"{_HOST}/m"]},
    {"type": "preposition", "content.urls": [f"{_HOST}/a", "http://bücher.example/ä"]},
    {
        "type": "purge",
        "content.patterns": [
            {"pattern": "https://img.example.com/a/*", "case-sensitive": True},
            {"pattern": "https://img.example.com/*b?c$$d$?e*", "match-query-string": True},
            {"pattern": "*://*.example.com/" + "*a" * 40},
        ],
        "content.ccid": ["collection-1", "x"],
    },
    {
        "type": "metadata-only",
        "metadata.patterns": [{"pattern": "https://img.example.com/*"}],
        "more": {"a": 1},
    },
    {"type": "purge", "content.urls": [f"{_HOST}/{number}" for number in range(300)]},
)


def triggers(seed: int) -> Cases:
    """Return cases for a CDNI door, made of what upstream CDNs send."""
    kind = "Content-Type: application/cdni; ptype=ci-trigger-command"
    commands: list[dict[str, object]] = [
        {"trigger": one, "cdn-path": ["AS64496:1"]} for one in _CDNI_TRIGGERS
    ]
    commands.append({"cancel": [f"{_HOST}/triggers/0"], "cdn-path": ["AS64496:1", "AS64497:2"]})
    good = [request(json.dumps(one).encode(), kind, start="POST /triggers") for one in commands]
    good += [get(path.decode("latin-1")) for path in _CDNI_PATHS[:7]]
    good += [get("/triggers/0", "DELETE"), get("/triggers", "HEAD"), get("/triggers/0", "PUT")]
    return Cases(
        seed,
        good,
        lines=LINES + _CDNI_LINES,
        starts=STARTS + _CDNI_STARTS,
        paths=PATHS + _CDNI_PATHS,
    )


def last_trigger(number: int) -> bytes:
    """Return a request whose answer can be told from all others."""
    return get(f"/triggers/zz{number}")


async def post_triggers(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    """Send cases to the CDNI door; what was answered with an error must not have been stored."""
    made = triggers(seed)
    port = _port_of(engine)
    free = [Client(port, last=last_trigger) for _ in range(_CLIENTS)]
    clients = list(free)
    created: set[str] = set()

    async def work(number: int) -> None:
        case = made.case(number)
        client = free.pop()
        try:
            answered = await client.send(case, number)
            fuzzed.count(number, case, answered)
            created.update(found.decode() for found in _CREATED.findall(answered))
        except HangError as exc:
            fuzzed.fault(number, repr(exc), case)
        finally:
            free.insert(0, client)

    before = _accepted(engine)
    await fuzzed.all(cases, work, _CLIENTS)
    report.connections = sum(client.connections for client in clients)
    probed = sum(probe.answered.startswith("HTTP/1.1 202") for probe in report.probes.found)
    stored = _accepted(engine) - before - probed
    with contextlib.closing(sqlite3.connect(engine.folder / "var/triggers.db")) as connection:
        kept = {name: decode(data) for name, data in connection.execute("SELECT id, data FROM trigger_of")}
    if kept.keys() != created:
        fuzzed.fault(cases, f"{len(kept)} triggers are kept, {len(created)} were answered so")
    tasks_of = sum(len(record.tasks) for record in kept.values())
    if stored != tasks_of:
        fuzzed.fault(cases, f"{stored} tasks are stored, the triggers have {tasks_of}")


def cdni_door() -> str:
    """Return the table of the door."""
    return cdni_table(free_port(), default_hosts=["img.example.com"])


def _port_of(engine: EngineProcess) -> int:
    found = re.search(r'kind = "cdni"\nlisten = "127.0.0.1:([0-9]+)"', engine.config_path.read_text())
    assert found is not None
    return int(found[1])


def _accepted(engine: EngineProcess) -> int:
    """Return how many tasks the engine has accepted."""
    page = engine.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})[2].decode()
    return int(float(page.split("\npurgeline_tasks_accepted_total ")[1].split("\n")[0]))
