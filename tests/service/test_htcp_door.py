"""The HTCP door of a real engine: what it takes and answers, and bursts. The cache is scripted."""

import base64
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from release.lab.caches import free_port
from tests.fakes.cache_clients import SHOP, SITE
from tests.fakes.htcp_clients import (
    CLR,
    MON,
    NOP,
    Answer,
    HtcpClient,
    Signed,
    clr,
    data,
    datagram,
    htcp_client,
    mediawiki,
    signed,
    specifier,
    tst,
)
from tests.fakes.node import FakeNode, always, answer
from tests.rigs.door import DoorEngine, access, door_table
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

SECRET = bytes(range(200))
GONE, KEPT, ABSENT = range(3)


class Here(NamedTuple):
    """An engine with HTCP doors, in front of a scripted node."""

    node: FakeNode
    engine: DoorEngine
    others: dict[str, int]  #: ports of further doors: signed, elsewhere, acked, IPv6

    @property
    def port(self) -> int:
        return self.engine.door_port

    def outcomes(self) -> Counter[str]:
        """Return how many datagrams came to what, at all doors."""
        return outcomes(self.engine)


def outcomes(engine: EngineProcess) -> Counter[str]:
    page = engine.request("GET", "/metrics")[2].decode()
    counts: Counter[str] = Counter()
    for line in page.splitlines():
        if line.startswith("purgeline_datagrams_total{"):
            counts[line.split('"')[1]] = int(float(line.split()[-1]))
        elif line.startswith("purgeline_datagrams_dropped_total "):
            counts["dropped"] = int(float(line.split()[-1]))
    return counts


def key_file(folder: Path) -> str:
    path = folder / "htcp.keys"
    path.write_text(f"wiki {base64.b64encode(SECRET).decode()}\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("htcp")
    others = {name: free_port() for name in ("signed", "elsewhere", "acked", "IPv6")}
    more = htcp_table(others["signed"], key_file=key_file(folder))
    more += htcp_table(others["elsewhere"], allow=["10.0.0.0/8"])
    more += htcp_table(others["acked"], wait="acked", wait_s=5)
    more += htcp_table(others["IPv6"]).replace("127.0.0.1", "[::1]")
    with (
        FakeNode() as node,
        DoorEngine(
            folder,
            fake_table(node.url, name="edge-1"),
            SITE,
            SHOP,
            door={"kind": "htcp", "allow": ["127.0.0.1"]},
            more=more,
        ) as engine,
    ):
        yield Here(node, engine, others)


@pytest.fixture
def client(here: Here) -> Iterator[HtcpClient]:
    with htcp_client(here.port) as made:
        yield made


def htcp_table(port: int, **keys: object) -> str:
    return door_table(port, kind="htcp", **keys)


def tasks_of(engine: EngineProcess, target: str) -> list[dict[str, Any]]:
    """Return the tasks that purge a URL, newest first."""
    return list(engine.get(f"/v1/engine/history?target={target}")["tasks"])


def purged(here: Here, path: str) -> dict[str, Any]:
    """Wait until a page of the site has been purged, and return its task."""
    url = f"http://{SITE}{path}"
    wait_until(lambda: any(task["state"] == "done" for task in tasks_of(here.engine, url)), what=url)
    return tasks_of(here.engine, url)[0]


def test_mediawikis_datagram_is_a_purge(here: Here, client: HtcpClient) -> None:
    """It asks for no answer and gets none."""
    client.send(mediawiki(f"http://{SITE}/wiki/Page"))
    task = purged(here, "/wiki/Page")
    assert (task["kind"], task["targets"]) == ("url", [f"http://{SITE}/wiki/Page"])
    assert task["by"] == {"token": "cms", "address": "127.0.0.1", "door": "htcp"}
    assert not client.has_answer()


@pytest.mark.parametrize(("minor", "is_old"), [(0, True), (0, False), (1, False)])
def test_a_clr_that_asks_for_it_is_answered_when_it_is_saved(
    here: Here, client: HtcpClient, minor: int, *, is_old: bool
) -> None:
    url = f"http://{SITE}/saved/{minor}{is_old}"
    section = data(CLR, bytes(2) + specifier(url), wants_answer=True, trans_id=5, is_old=is_old)
    answer = client.ask(datagram(section, minor=minor), is_old=is_old)
    assert answer == Answer(CLR, GONE, False, 5, b"", b"", minor)
    assert len(tasks_of(here.engine, url)) == 1


def test_tst_and_nop_are_answered_and_nothing_is_ever_present(client: HtcpClient) -> None:
    """The engine holds no objects. Six octets: see `messages.ABSENT`."""
    assert client.ask(tst(f"http://{SITE}/a", trans_id=3)) == Answer(1, 1, False, 3, bytes(6), b"", 1)
    assert client.ask(datagram(data(NOP, wants_answer=True))) == Answer(NOP, 0, False, 7, b"", b"", 1)


@pytest.mark.parametrize(
    ("message", "outcome", "response"),
    [
        (clr("http://evil.org/a", wants_answer=True), "site", 5),
        (clr("/a", wants_answer=True), "uri", 5),
        (clr(b"http://img.example.com/\xff", wants_answer=True), "uri", 5),
        (clr("ftp://img.example.com/", wants_answer=True), "uri", 5),
        (datagram(data(MON, b"\5", wants_answer=True)), "opcode", 2),
        (datagram(data(15, wants_answer=True)), "opcode", 2),
        (datagram(data(CLR, wants_answer=True), minor=2), "version", 4),
        (datagram(data(CLR, wants_answer=True)), "malformed", None),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed", None),
        (b"", "malformed", None),
        (datagram(data(NOP)), "ignored", None),
        (datagram(b"\0\x08\x42\1\0\0\0\0"), "ignored", None),
    ],
)
def test_what_is_not_done_is_counted_and_its_sender_told_if_it_asked(
    here: Here, client: HtcpClient, message: bytes, outcome: str, response: int | None
) -> None:
    before = here.outcomes()
    if response is None:
        client.send(message)
    else:
        answer = client.ask(message)
        assert (answer.response, answer.is_overall) == (response, True)
    wait_until(lambda: here.outcomes() - before == Counter({outcome: 1}), what=outcome)
    if response is None:
        assert not client.has_answer(0.02)


def test_a_flood_from_elsewhere_is_dropped_and_told_in_one_line(here: Here, client: HtcpClient) -> None:
    """Nobody is answered whose address is not in ``allow``: it may be forged. Other doors go on."""
    before = here.outcomes()["address"]
    with htcp_client(here.others["elsewhere"]) as stranger:
        for number in range(2000):
            stranger.send(clr(f"http://{SITE}/{number}", wants_answer=True))
        wait_until(lambda: here.outcomes()["address"] == before + 2000, what="all of them counted")
        assert client.ask(clr(f"http://{SITE}/meanwhile", wants_answer=True)).response == GONE
        assert not stranger.has_answer(0.02)
    assert here.engine.wait_for(here.engine.submit([f"http://{SITE}/x"]))["state"] == "done"


def test_a_door_with_keys_takes_what_is_signed_and_signs_its_answers(here: Here) -> None:
    """Without: code 0; with a wrong secret, or too old: code 1. Both are in the audit."""
    port = here.others["signed"]
    url = f"http://{SITE}/signed"
    section = data(CLR, bytes(2) + specifier(url), wants_answer=True)
    with htcp_client(port) as client:
        answer = client.ask(signed(section, Signed(SECRET), client.here, client.door))
        assert (answer.response, answer.is_overall) == (GONE, False)
        made = answer.auth
        began = int.from_bytes(made[:4])
        echoed = struct_of(answer)
        assert signed(echoed, Signed(SECRET, signed_at=began), client.door, client.here)[-len(made) :] == made
        for message, response in (
            (datagram(section), 0),
            (signed(section, Signed(b"wrong"), client.here, client.door), 1),
            (signed(section, Signed(SECRET, signed_at=time.time() - 500), client.here, client.door), 1),
        ):
            answer = client.ask(message)
            assert (answer.response, answer.is_overall, answer.auth) == (response, True, b"")
    assert len(tasks_of(here.engine, url)) == 1
    refused = [json.loads(line) for line in here.engine.log().splitlines() if '"status":401' in line]
    assert [line["reason"] for line in refused][:2] == [
        "not signed",
        "the signature is not that of key 'wiki'",
    ]
    assert {line["door"] for line in refused} == {"htcp"}


def struct_of(answer: Answer) -> bytes:
    """Return the DATA section of an answer to a CLR."""
    return b"\0\x08" + bytes([answer.opcode << 4 | answer.response, 1]) + answer.trans_id.to_bytes(4)


def test_acked_tells_what_the_caches_made_of_it(here: Here) -> None:
    """Purged there, not there, or not done by all of them."""
    with htcp_client(here.others["acked"]) as client:
        url = f"http://{SITE}/acked"
        assert client.ask(clr(url, wants_answer=True)).response == GONE
        usual, here.node.script = here.node.script, always(answer(404))
        try:
            assert client.ask(clr(url + "2", wants_answer=True)).response == ABSENT
        finally:
            here.node.script = usual


def test_ipv6_and_urls_that_need_a_look(here: Here) -> None:
    """A port 80 that RFC 2756 wants to be named, upper case, and a star, which is a letter here."""
    with htcp_client(here.others["IPv6"], "::1") as client:
        for url in (f"http://{SITE}:80/port", f"HTTP://{SITE.upper()}/case", f"http://{SITE}/star*"):
            assert client.ask(clr(url, wants_answer=True)).response == GONE, url
    for path in ("/port", "/case", "/star*"):
        assert purged(here, path)["by"]["address"] == "::1"


def test_what_comes_together_is_a_task_in_which_a_url_stands_once(here: Here, client: HtcpClient) -> None:
    before, stats = here.outcomes(), here.engine.get("/v1/engine/stats")["qps_boss"]["count"]
    tasks = accepted(here.engine)
    for number in range(600):
        client.send(mediawiki(f"http://{SITE}/together/{number % 100}"))
    wait_until(lambda: here.outcomes() - before == Counter(accepted=600), what="all of them saved")
    assert accepted(here.engine) - tasks <= 60
    assert 100 <= here.engine.get("/v1/engine/stats")["qps_boss"]["count"] - stats <= 600


def accepted(engine: EngineProcess) -> int:
    page = engine.request("GET", "/metrics")[2].decode()
    return int(float(page.split("\npurgeline_tasks_accepted_total ")[1].split("\n")[0]))


def test_a_burst_of_ten_thousand_loses_none_that_the_kernel_delivered(here: Here, client: HtcpClient) -> None:
    before = here.outcomes()
    for number in range(10_000):
        client.send(mediawiki(f"http://{SITE}/burst/{number}", number))
    wait_until(lambda: sum((here.outcomes() - before).values()) >= 10_000, what="all of them counted")
    found = here.outcomes() - before
    assert set(found) <= {"accepted", "dropped"}
    assert sum(found.values()) == 10_000
    wait_until(lambda: here.engine.get("/v1/engine/stats")["pushing_queue"] == 0, what="all purges sent")


def test_what_the_kernel_drops_is_counted_and_told(tmp_path: Path) -> None:
    """The engine stands still while more comes in than the buffer holds; nothing is lost in silence."""
    door = {"kind": "htcp", "receive_buffer_bytes": 64 * 1024}
    with (
        FakeNode() as node,
        DoorEngine(tmp_path, fake_table(node.url, name="edge-1"), door=door) as engine,
        htcp_client(engine.door_port) as client,
    ):
        os.kill(engine.pid, signal.SIGSTOP)
        for number in range(1000):
            client.send(mediawiki(f"http://{SITE}/{number}", number))
        os.kill(engine.pid, signal.SIGCONT)
        wait_until(lambda: sum(outcomes(engine).values()) == 1000, what="each of them counted")
        found = outcomes(engine)
        assert set(found) == {"accepted", "dropped"}
        assert f"the kernel has dropped {found['dropped']} datagrams, which nobody purges" in engine.log()


def test_what_the_token_may_not_yet_is_kept_until_it_may(tmp_path: Path) -> None:
    """Nobody sends a datagram twice: over the rate, a purge waits in the engine instead of being refused."""
    more = access("*.other.org", name="slow", sha256="0" * 64, rate_per_s=4, burst_count=1)
    slow = free_port()
    with (
        FakeNode() as node,
        DoorEngine(
            tmp_path, fake_table(node.url, name="edge-1"), more=more + htcp_table(slow, token="slow")
        ) as engine,
        htcp_client(slow) as client,
    ):
        began = time.monotonic()
        for number in range(4):
            client.send(clr(f"http://a.other.org/{number}"))
            time.sleep(0.02)  # tasks of their own
        wait_until(lambda: outcomes(engine) == Counter(accepted=4), what="all of them saved")
        assert time.monotonic() - began > 0.5


def test_a_reload_in_the_middle_loses_no_datagram(tmp_path: Path) -> None:
    """The supervisor holds the socket; both workers and their successors read from it."""
    door = free_port()
    with (
        FakeNode() as node,
        SupervisedEngine(
            tmp_path, fake_table(node.url, name="edge-1") + access(SITE) + htcp_table(door), workers=2
        ) as engine,
        htcp_client(door) as client,
    ):
        before = {worker["generation"] for worker in engine.workers()}
        os.kill(engine.pid, signal.SIGHUP)
        sent = 0
        while before & {worker["generation"] for worker in engine.workers()} or sent < 5000:
            for _ in range(100):
                client.send(mediawiki(f"http://{SITE}/reload/{sent}", sent))
                sent += 1
        engine.wait_for_quiet()
        paths = {f"/reload/{number}" for number in range(sent)}

        def are_purged() -> bool:
            return len(paths & {request.path for request in node.requests}) == sent

        wait_until(
            are_purged, what=lambda: f"{len(paths & {request.path for request in node.requests})}/{sent}"
        )
