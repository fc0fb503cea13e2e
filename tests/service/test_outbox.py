"""The outbox on a real disk: nothing is lost, nothing is damaged, nothing is held up."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from engine.client import (
    AsyncClient,
    Client,
    Outbox,
    OutboxError,
    OutboxFullError,
    RefusedError,
    Submitted,
    UnreachableError,
)
from engine.client import sending as outbox_sending
from tests.fakes.engine import FakeEngine, problem
from tests.rigs.killed_at import killed_at_each_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.client.outbox import Entry
    from engine.client.sending import Outcome

DEAD = "http://127.0.0.1:1"
URL = "http://img.example.com/a.jpg"


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        yield running


def put(outbox: Outbox, *task_ids: str) -> None:
    for task_id in task_ids:
        outbox.put(task_id, body_of(task_id))


def body_of(task_id: str) -> bytes:
    return json.dumps({"id": task_id, "targets": [URL]}).encode()


def ids(entries: list[Entry]) -> list[str]:
    return [entry.task_id for entry in entries]


def send(outbox: Outbox, url: str) -> Outcome:
    with Client(url, outbox=outbox, total_timeout_s=1) as client:
        return client.send_outbox()


def taken(engine: FakeEngine) -> list[str]:
    return [body["id"] for _, _, body in engine.requests]


def test_what_no_engine_takes_is_kept_and_sent_by_whoever_comes_next(
    outbox: Outbox, engine: FakeEngine
) -> None:
    """By the next task of a client too, and under its first id."""
    with Client(DEAD, outbox=outbox, total_timeout_s=0.05) as client:
        first = client.purge([URL])
        [second, third] = client.submit_all([{"targets": [URL], "id": name} for name in ("b", "c")])
    assert (first.state, first.is_spooled) == ("spooled", True)
    assert [one.state for one in (second, third) if isinstance(one, Submitted)] == ["spooled"] * 2
    assert ids(outbox.entries()) == [first.task_id, "b", "c"]
    with Client(engine.url, outbox=outbox.folder) as client:
        assert client.purge(URL, id="d").state == "accepted"
    assert taken(engine) == ["d", first.task_id, "b", "c"]
    assert outbox.entries() == []


def test_a_task_that_is_refused_is_not_kept(outbox: Outbox, engine: FakeEngine) -> None:
    engine.script["POST /v1/engine/task"] = [problem(422, "outside the sites")]
    with Client(engine.url, outbox=outbox) as client, pytest.raises(RefusedError):
        client.purge(URL)
    assert outbox.entries() == []


def test_files_are_of_their_owner_alone(outbox: Outbox) -> None:
    put(outbox, "a")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (outbox.folder, outbox.entries()[0].path)]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("task_id", ["../up", "a/b", "", "a" * 65, "a\n", "é"])
def test_an_id_that_no_engine_takes_names_no_file(outbox: Outbox, tmp_path: Path, task_id: str) -> None:
    with pytest.raises(OutboxError, match=r"is no task id: 1-64 of A-Z a-z 0-9 \. _ -.*stored nowhere"):
        put(outbox, task_id)
    with Client(DEAD, outbox=outbox, total_timeout_s=0.05) as client, pytest.raises(ValueError, match="1-64"):
        client.submit({"id": task_id, "targets": [URL]} if task_id else {"id": 1, "targets": [URL]})
    assert sorted(path.name for path in tmp_path.rglob("*")) in ([], ["outbox", "refused"])


def test_a_folder_that_cannot_be_read_is_told_while_tasks_go_on(outbox: Outbox, engine: FakeEngine) -> None:
    outbox.folder.write_text("no folder")
    told: list[str] = []
    with Client(engine.url, outbox=outbox, notice=told.append) as client:
        assert client.purge(URL).state == "accepted"
    assert told == [
        f"the outbox {outbox.folder} was not sent: outbox {outbox.folder} cannot be read: Not a directory"
    ]


def test_entries_are_of_the_order_they_came_in_though_the_clock_is_set_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([3_000_000_000, 1_000_000_000, 2_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    put(outbox, "z", "b", "a")
    assert ids(outbox.entries()) == ["z", "b", "a"]


def test_the_same_task_is_kept_once_and_another_of_its_id_beside_it(outbox: Outbox) -> None:
    put(outbox, "a", "a")
    outbox.put("a", b'{"id":"a","targets":["http://img.example.com/other"]}')
    assert ids(outbox.entries()) == ["a", "a"]


@pytest.mark.parametrize("limits", [{"entries_max": 2}, {"bytes_max": 300}])
def test_a_full_outbox_is_an_error_that_says_what_it_has(tmp_path: Path, limits: dict[str, int]) -> None:
    outbox = Outbox(tmp_path / "outbox", **limits)
    put(outbox, "a", "b")
    with pytest.raises(OutboxFullError, match=r"is full: it has 2 tasks .*task c is stored nowhere"):
        put(outbox, "c")
    with Client(DEAD, outbox=outbox, total_timeout_s=0.05) as client, pytest.raises(OutboxFullError):
        client.purge([URL] * 10)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(outbox: Outbox) -> None:
    """A file that may have 100 bytes, as a disk that has no more."""
    put(outbox, "a")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, most))
    try:
        with pytest.raises(OutboxError, match="File too large; task b is stored nowhere"):
            put(outbox, "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in outbox.folder.iterdir()) == [outbox.entries()[0].path.name, "refused"]


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_into_is_refused(
    outbox: Outbox, mode: int, engine: FakeEngine
) -> None:
    put(outbox, "a")
    outbox.folder.chmod(mode)
    with pytest.raises(OutboxError, match=r"other accounts may write there; chmod 700 .*stored nowhere"):
        put(outbox, "b")
    with pytest.raises(OutboxError, match="chmod 700"):
        send(outbox, engine.url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_accounts_folder_is_an_error_of_both(outbox: Outbox) -> None:
    put(outbox, "a")
    os.seteuid(65534)
    try:
        with pytest.raises(OutboxError, match="Permission denied; task b is stored nowhere"):
            put(outbox, "b")
        with pytest.raises(OutboxError, match="Permission denied"):
            send(outbox, DEAD)
    finally:
        os.seteuid(0)
    assert ids(outbox.entries()) == ["a"]


def test_what_root_keeps_is_of_the_folders_account(outbox: Outbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    put(outbox, "a")
    os.chown(outbox.folder, 65534, 65534)
    put(outbox, "b")
    assert outbox.entries()[1].path.stat().st_uid == 65534


def test_a_writer_that_is_killed_before_any_step_loses_no_other_task_and_damages_nothing(
    outbox: Outbox, engine: FakeEngine
) -> None:
    """What it left unfinished is removed by the next, and its own task is there whole or not at all."""
    put(outbox, "first")
    steps = killed_at_each_step(lambda: put(outbox, "killed"))
    for _ in steps:
        names = ids(outbox.entries())
        assert names in (["first"], ["first", "killed"])
        assert [json.loads(outbox.read(entry)["body"])["id"] for entry in outbox.entries()] == names
    put(outbox, "last")
    assert ids(outbox.entries()) == ["first", "killed", "last"]
    assert not [path for path in outbox.folder.iterdir() if path.name[0] == "."]
    assert send(outbox, engine.url).sent == 3


def test_a_writer_that_is_killed_in_a_new_folder_leaves_one_that_works(outbox: Outbox) -> None:
    for _ in killed_at_each_step(lambda: put(outbox, "a")):
        pass
    assert ids(outbox.entries()) == ["a"]


def test_a_sender_that_is_killed_before_any_step_loses_nothing(outbox: Outbox, tmp_path: Path) -> None:
    """The engine is a file that a task is added to; task b is refused for good. Repeats have the same id."""
    put(outbox, "a", "b", "c")
    taken_file = tmp_path / "taken"

    def submit(body: bytes) -> None:
        task_id = json.loads(body)["id"]
        if task_id == "b":
            raise RefusedError(422, "no", problem={"detail": "no"})
        with taken_file.open("a") as file:
            file.write(f"{task_id}\n")

    for _ in killed_at_each_step(lambda: outbox_sending.send(outbox, submit, lambda _: None)):
        seen = set(taken_file.read_text().split()) if taken_file.exists() else set()
        assert {*seen, *ids(outbox.entries()), *ids(outbox.refused())} == {"a", "b", "c"}
    assert (ids(outbox.entries()), ids(outbox.refused())) == ([], ["b"])
    assert outbox.read(outbox.refused()[0])["reason"] == "no (422)"


def test_two_senders_send_nothing_twice(outbox: Outbox, engine: FakeEngine) -> None:
    put(outbox, *(f"t{number:02}" for number in range(30)))
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(send(outbox, engine.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken(engine) == [f"t{number:02}" for number in range(30)]
    assert sum(outcome.sent for outcome in outcomes) == 30


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_a_task_that_an_engine_refuses_for_good_is_set_aside_and_blocks_nothing(
    outbox: Outbox, engine: FakeEngine, status: int
) -> None:
    put(outbox, "bad", "good")
    engine.script["POST /v1/engine/task"] = [problem(status, "no"), (202, accepted("good"))]
    assert send(outbox, engine.url)[:3] == (1, 1, 0)
    [entry] = outbox.refused()
    found = outbox.read(entry)
    assert (entry.task_id, found["status"], found["reason"]) == ("bad", status, f"no ({status})")
    assert outbox.restore() == 1
    assert ids(outbox.entries()) == ["bad"]


@pytest.mark.parametrize("status", [500, 503])
def test_a_task_that_is_not_taken_now_stays_and_blocks_nothing(
    outbox: Outbox, engine: FakeEngine, status: int
) -> None:
    put(outbox, "bad", "good")
    engine.script["POST /v1/engine/task"] = [problem(status, "not now"), (202, accepted("good"))]
    outcome = send(outbox, engine.url)
    assert outcome[:3] == (1, 0, 1)
    assert isinstance(outcome.error, RefusedError)
    assert ids(outbox.entries()) == ["bad"]


@pytest.mark.parametrize(
    "answer",
    [
        problem(401, "takes a bearer token"),
        problem(403, "token 'ci' lacks the scope submit"),
        problem(404, "no such path"),
        problem(429, "token is over its rate"),
        (301, {}, {"Location": "http://x/"}),
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\n<html>",
        (200, {}),
        b"",
    ],
)
def test_what_would_befall_all_ends_the_run_and_all_stay(
    outbox: Outbox, engine: FakeEngine, answer: Any
) -> None:
    """Credentials and addresses are mended; a proxy's 400 says nothing of the task."""
    put(outbox, "a", "b")
    engine.script["POST /v1/engine/task"] = [answer]
    outcome = send(outbox, engine.url)
    assert outcome[:3] == (0, 0, 2)
    assert isinstance(outcome.error, RefusedError | UnreachableError)
    assert "b" not in taken(engine)
    del engine.script["POST /v1/engine/task"]
    assert send(outbox, engine.url)[:3] == (2, 0, 0)


def test_a_damaged_file_is_set_aside(outbox: Outbox, engine: FakeEngine) -> None:
    put(outbox, "a", "b")
    outbox.entries()[0].path.write_bytes(b'{"body"')
    assert send(outbox, engine.url)[:3] == (1, 1, 0)
    assert ids(outbox.refused()) == ["a"]


def accepted(task_id: str) -> dict[str, object]:
    return {"task_id": task_id, "state": "accepted", "total": 1}


def test_an_engine_that_is_asked_by_many_tasks_at_once_gets_each_of_the_outbox_once(
    outbox: Outbox, engine: FakeEngine
) -> None:
    put(outbox, "a", "b")

    async def scenario() -> None:
        async with AsyncClient([DEAD, engine.url], outbox=outbox) as client:
            await asyncio.gather(*(client.purge(URL) for _ in range(10)))

    asyncio.run(scenario())
    assert sorted(name for name in taken(engine) if len(name) == 1) == ["a", "b"]
    assert len(engine.requests) == 12
