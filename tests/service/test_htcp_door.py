"""The HTCP door of a real engine: what it takes and answers, and bursts. The cache is scripted."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
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
    read_answer,
    signed,
    specifier,
    tst,
)
from tests.fakes.node import FakeNode, always, answer
from tests.rigs.door import TOKEN, DoorEngine, access, door_table
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

SECRET = bytes(range(200))
GONE, KEPT, ABSENT = range(3)
GROUP = "239.128.0.112"


class Here(NamedTuple):
    """An engine with HTCP doors, in front of a scripted node."""

    node: FakeNode
    engine: DoorEngine
    others: dict[str, int]  #: ports of further doors, by what they are for

    @property
    def port(self) -> int:
        return self.engine.door_port

    def outcomes(self) -> Counter[str]:
        """Return how many datagrams came to what, at all doors."""
        return outcomes(self.engine)


def outcomes(engine: EngineProcess) -> Counter[str]:
    page = engine.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})[2].decode()
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
    others = {name: free_port() for name in ("signed", "elsewhere", "acked", "IPv6", "any", "both", "group")}
    more = htcp_table(others["signed"], key_file=key_file(folder))
    more += htcp_table(others["elsewhere"], allow=["10.0.0.0/8"])
    more += htcp_table(others["acked"], wait="acked", wait_s=5)
    more += htcp_table(others["IPv6"]).replace("127.0.0.1", "[::1]")
    any_address = {"allow": ["127.0.0.0/8"], "key_file": key_file(folder)}
    more += htcp_table(others["any"], **any_address).replace('"127.0.0.1:', '"0.0.0.0:')
    more += htcp_table(others["both"], **any_address).replace('"127.0.0.1:', '"[::]:')
    more += htcp_table(others["group"], allow=["0.0.0.0/0"], groups=[GROUP]).replace(
        '"127.0.0.1:', '"0.0.0.0:'
    )
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


FLOOD = """
import socket, sys, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", int(sys.argv[1])))
until, sent = time.monotonic() + 0.4, 0
while time.monotonic() < until:
    for _ in range(100):
        client.send(bytes.fromhex(sys.argv[2]))
    sent += 100
print(sent)
"""


def test_others_are_served_beside_a_flood_and_every_datagram_of_it_is_counted(here: Here) -> None:
    """As fast as a process can send; of a client that may, for a site that it may not."""
    before = here.outcomes()
    message = clr("http://evil.org/a", wants_answer=True).hex()
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(here.port), message], stdout=subprocess.PIPE, text=True
    )
    took = []
    while flood.poll() is None:
        began = time.monotonic()
        here.engine.submit([f"http://{SITE}/beside"])
        took.append(time.monotonic() - began)
    sent = int(flood.communicate()[0])
    wait_until(lambda: sum((here.outcomes() - before).values()) == sent, what="each of them counted")
    assert set(here.outcomes() - before) <= {"site", "dropped"}
    assert sorted(took)[len(took) // 2] < 0.5, took
    lines = [line for line in here.engine.log().splitlines() if "host 'evil.org' is not among" in line]
    told_at = [json.loads(line)["time"] for line in lines]
    assert 0 < len(lines) <= 100 * (told_at[-1] - told_at[0] + 2), "so many a second, of audit and log"


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
        key = Signed(SECRET, signed_at=began)
        assert signed(data_of(answer), key, client.door, client.here)[-len(made) :] == made
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


def data_of(answer: Answer) -> bytes:
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


@pytest.mark.parametrize("door", ["any", "both"])
def test_an_answer_comes_from_the_address_that_was_asked_and_is_signed_for_it(here: Here, door: str) -> None:
    """The door listens on every address, of IPv4 or of both kinds; a Squid drops other answers."""
    with htcp_client(here.others[door], "127.0.0.2") as client:
        client.socket.connect(client.door)  # it takes answers from there alone
        section = data(CLR, bytes(2) + specifier(f"http://{SITE}/{door}"), wants_answer=True)
        client.socket.send(signed(section, Signed(SECRET), client.here, client.door))
        made = client.socket.recv(100)
        answer = read_answer(made)
        assert (answer.response, answer.is_overall) == (GONE, False)
        key = Signed(SECRET, signed_at=int.from_bytes(answer.auth[:4]))
        assert signed(data_of(answer), key, client.door, client.here) == made


def test_what_is_sent_to_a_group_is_purged_and_not_answered(here: Here) -> None:
    """Several engines may be in a group: all of them would answer."""
    with htcp_client(here.others["group"], GROUP) as client:
        client.socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own_address_for(GROUP))
        )
        client.send(clr(f"http://{SITE}/group", wants_answer=True))
        assert purged(here, "/group")["targets"] == [f"http://{SITE}/group"]
        assert not client.has_answer()


def own_address_for(group: str) -> str:
    """Return the address that the machine sends to a group from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((group, 9))
        except OSError:
            pytest.skip("this machine has no route for multicast")
        return str(probe.getsockname()[0])


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
        assert found["dropped"] == drops_of(engine.door_port)
        assert f"the kernel has dropped {found['dropped']} datagrams, which nobody purges" in engine.log()


def drops_of(port: int) -> int:
    """Return what ``/proc/net/udp`` says that the socket of a port has dropped."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return int(next(line.split()[-1] for line in lines if f":{port:04X}" in line.split()[1]))


def test_what_the_token_may_not_yet_is_kept_until_it_may_or_the_engine_ends(tmp_path: Path) -> None:
    """Nobody sends a datagram twice: over the rate, a purge waits in the engine instead of being refused."""
    slow, stopped = free_port(), free_port()
    more = access("*.other.org", name="slow", sha256="0" * 64, rate_per_s=4, burst_count=1)
    more += access("*.third.org", name="stopped", sha256="1" * 64, rate_per_s=0.001, burst_count=1)
    more += htcp_table(slow, token="slow") + htcp_table(stopped, token="stopped")
    with (
        FakeNode() as node,
        DoorEngine(tmp_path, fake_table(node.url, name="edge-1"), more=more) as engine,
        htcp_client(slow) as client,
        htcp_client(stopped) as other,
    ):
        began = time.monotonic()
        for number in range(4):
            client.send(clr(f"http://a.other.org/{number}"))
            time.sleep(0.02)  # tasks of their own
        wait_until(lambda: outcomes(engine) == Counter(accepted=4), what="all of them saved")
        assert time.monotonic() - began > 0.4
        assert other.ask(clr("http://a.third.org/", wants_answer=True)).response == GONE
        other.send(clr("http://a.third.org/2", wants_answer=True))
        assert not other.has_answer()
        assert engine.stop() == 0
        assert read_answer(other.socket.recv(100)).response == KEPT
        assert "datagrams not taken: 1 unsaved (last from 127.0.0.1: token 'stopped' is over" in engine.log()


def test_no_purge_is_refused_for_what_others_came_with_it(tmp_path: Path) -> None:
    """Ten URLs together are more than a site's ``confirm_over``; each of them by itself is not."""
    over = {"*.wide.org": 3, "*.narrow.org": 1}
    sites = "".join(f'[[site]]\nhost = "{host}"\nconfirm_over = {count}\n' for host, count in over.items())
    with FakeNode() as node:
        urls = {"edge-1": node.url, "edge-2": node.url.replace("127.0.0.1", "localhost")}
        nodes = "".join(fake_table(url, name=name) for name, url in urls.items())
        with (
            DoorEngine(tmp_path, nodes, "*", door={"kind": "htcp"}, more=sites) as engine,
            htcp_client(engine.door_port) as client,
        ):
            for number in range(10):
                client.send(clr(f"http://a.wide.org/{number}"))
            client.send(clr("http://a.wide.org/9"))
            wait_until(lambda: outcomes(engine) == Counter(accepted=11), what="all of them saved")
            answer = client.ask(clr("http://a.narrow.org/", wants_answer=True))
            assert (answer.response, answer.is_overall) == (KEPT, False)
            assert outcomes(engine) == Counter(accepted=11, unsaved=1)


@pytest.mark.slow
def test_a_reload_in_the_middle_loses_no_datagram(tmp_path: Path) -> None:
    """The supervisor holds the socket; both workers and their successors read from it.

    Where the kernel keeps few datagrams, it may drop some of them, and counts those.
    """
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
            time.sleep(0.02)  # 5,000 a second at most
        engine.wait_for_quiet()
        paths = {f"/reload/{number}" for number in range(sent)}

        def accounted_for() -> int:
            purged = len(paths & {request.path for request in node.requests})
            return purged + outcomes(engine)["dropped"]

        wait_until(lambda: accounted_for() == sent, what=lambda: f"{accounted_for()} of {sent} purged")
