"""engine.doctor: what each check comes to, of files of a kernel as a test writes them."""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from engine.config.load import parse
from engine.doctor import files, kernel, port
from engine.doctor.check import Verdict, worst
from engine.doctor.diag import Listener, read_listeners
from engine.doctor.reader import UNLIMITED, Process, Reader
from engine.doctor.sockets import Tally, address_of, sockets, tally
from engine.doctor.versions import Asked, versions

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "  sl  local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode\n"
ENGINE = "0100007F:23DD"  # 127.0.0.1:9181


class Kernel:
    """A folder with files as a kernel has them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reader = Reader(root)

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def sysctl(self, key: str, value: object) -> None:
        self.write(f"proc/sys/{key.replace('.', '/')}", f"{value}\n")

    def sockets(self, *lines: tuple[str, str, int], name: str = "tcp") -> None:
        self.write(
            f"proc/net/{name}",
            HEAD
            + "".join(
                f"   0: {local} {remote} {state:02X} 0:0 00:0 0 0 0 {number}\n"
                for number, (local, remote, state) in enumerate(lines, start=7)
            ),
        )


@pytest.fixture
def here(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.mark.parametrize(
    ("count", "verdict"), [(79, "ok"), (80, "warn"), (94, "warn"), (95, "fail"), (100, "fail")]
)
def test_the_table_of_tracked_connections_by_how_full_it_is(here: Kernel, count: int, verdict: str) -> None:
    here.sysctl("net.netfilter.nf_conntrack_max", 100)
    here.sysctl("net.netfilter.nf_conntrack_count", count)
    found = kernel.conntrack(here.reader)
    assert found.verdict == verdict
    assert bool(found.reason) == bool(found.remedy) == (verdict != "ok")


def test_a_kernel_without_conntrack_has_no_table_to_fill(here: Kernel) -> None:
    found = kernel.conntrack(here.reader)
    assert (found.verdict, found.value) == ("ok", "not loaded")


def test_what_a_kernel_does_not_tell_is_not_known(here: Kernel) -> None:
    assert kernel.time_wait(here.reader).verdict is Verdict.UNKNOWN
    assert kernel.ports(None, Counter(), parse({}).engine, 1).verdict is Verdict.UNKNOWN
    assert kernel.tw_reuse(here.reader, []).verdict is Verdict.UNKNOWN
    assert port.backlog(None, 4096, []).verdict is Verdict.UNKNOWN
    blind = port.drops([], [], {"ListenDrops": 3}, "nothing is told of single sockets")
    assert (blind.verdict, "3 by all ports" in blind.reason) == (Verdict.UNKNOWN, True)


def test_sockets_are_counted_by_what_they_are_to_the_engine(here: Kernel) -> None:
    here.sockets(
        (ENGINE, "00000000:0000", 10),
        ("00000000:23DE", "00000000:0000", 10),  # a door, and one of its clients
        ("0100007F:23DE", "0500000A:9C47", 6),
        ("00000000:0016", "00000000:0000", 10),
        (ENGINE, "0500000A:9C40", 1),
        (ENGINE, "0500000A:9C41", 6),
        ("0100007F:9C42", ENGINE, 6),  # a client here that closed first
        ("0100007F:9C43", ENGINE, 1),  # the other end of one that is open
        ("0600000A:9C44", "0700000A:23DD", 6),  # to the engine of another host
        ("0600000A:9C45", "0700000A:0050", 1),
        ("0600000A:0050", "0700000A:9C45", 1),  # a server of this host
    )
    here.sockets(
        ("0000000000000000FFFF00000100007F:23DD", "0000000000000000FFFF00000800000A:9C46", 6),
        ("00000000000000000000000001000000:23DD", "00000000000000000000000001000000:9C46", 1),
        name="tcp6",
    )
    door = ("::", 9182)
    found = tally(sockets(here.reader), listen=("127.0.0.1", 9181), ports=(40000, 50000), doors=[door])
    assert found.inodes == {7, 8}
    assert (found.open_count, found.closed_count) == (2, 3)
    assert found.peers == {"10.0.0.5": 2, "127.0.0.1": 1, "10.0.0.8": 1, "::1": 1}
    assert found.by_destination == {("127.0.0.1", 9181): 2, ("10.0.0.7", 9181): 1, ("10.0.0.7", 80): 1}


def test_an_address_of_either_kind_is_read() -> None:
    assert address_of(ENGINE) == ("127.0.0.1", 9181)
    assert address_of("00000000000000000000000001000000:0050") == ("::1", 80)
    assert address_of("0000000000000000FFFF00000100007F:0050") == ("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        ({}, None),
        ({"etc/systemd/system/purgeline.service": "[Service]\n"}, 0),
        ({"etc/systemd/system/purgeline.service": "[Service]\nLimitNOFILE=1024:524288\n"}, 1024),
        ({"usr/lib/systemd/system/purgeline.service": "LimitNOFILE=infinity\n"}, UNLIMITED),
        (
            {
                "usr/lib/systemd/system/purgeline.service": "LimitNOFILE=1\n",
                "etc/systemd/system/purgeline.service": "LimitNOFILE=2\n",
                "etc/systemd/system/purgeline.service.d/b.conf": "LimitNOFILE = 4\n",
                "etc/systemd/system/purgeline.service.d/a.conf": "LimitNOFILE = 3\n",
            },
            4,
        ),
    ],
)
def test_the_limit_of_a_unit_is_the_last_that_systemd_reads(
    here: Kernel, texts: dict[str, str], limit: int | None
) -> None:
    for path, text in texts.items():
        here.write(path, text)
    assert here.reader.unit_files_max(files.UNIT) == limit


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(None, "not known"), (0, "warn"), (100, "fail"), (1024, "warn"), (262144, "ok"), (UNLIMITED, "ok")],
)
def test_the_limit_of_a_unit_is_held_to_what_the_engine_may_open(limit: int | None, verdict: str) -> None:
    need = files.needed(parse({}))
    assert need == files.Need(144, 10144)
    assert files.unit_files(limit, need).verdict == verdict


def test_the_process_that_is_nearest_to_its_limit_counts() -> None:
    need = files.Need(100, 1000)
    far, near = Process(1, 2000, 10), Process(2, 2000, 1900)
    found = files.open_files([far, near], need)
    assert (found.verdict, found.value) == (Verdict.FAIL, "2000, 1900 open")
    assert "process 2" in found.reason
    assert files.open_files([Process(1, 2000, None)], need)[1:3] == (Verdict.OK, "2000, ? open")
    assert files.open_files([], need).reason == "no engine listens here"
    assert "another account's" in files.open_files([], need, listens=True).reason


def test_drops_that_go_on_are_worse_than_those_that_were() -> None:
    before, after = Listener(7, 0, 8, 3), Listener(7, 0, 8, 5)
    assert port.drops([before], [after], {}).verdict is Verdict.FAIL
    assert port.drops([after], [after], {}).verdict is Verdict.WARN
    assert port.drops([], [after], {}).verdict is Verdict.WARN  # opened meanwhile, so nothing is new
    assert port.drops([], [Listener(7, 9, 8, 0)], {}).verdict is Verdict.FAIL
    assert port.drops([], [Listener(7, 8, 8, 0)], {}).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("open_count", "closed_count", "verdict"),
    [
        (0, 0, "not known"),
        (0, 60, "not known"),
        (1, 60, "ok"),
        (0, 61, "warn"),
        (12, 61, "warn"),
        (13, 61, "ok"),
    ],
)
def test_connections_that_are_kept_by_how_many_were_closed(
    open_count: int, closed_count: int, verdict: str
) -> None:
    counted = Tally(set(), Counter(), open_count, closed_count, Counter({"10.0.0.5": 50}))
    assert port.proxy(counted).verdict == verdict


def test_an_answer_of_the_kernel_that_is_an_error_is_raised() -> None:
    answer = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -2)
    with pytest.raises(OSError, match="no diagnosis") as caught:
        list(read_listeners([answer]))
    assert caught.value.errno == 2


def test_versions_count_once_for_each_that_answers() -> None:
    one, other = Asked("http://a", "1.0"), Asked("http://b", "1.1", "", is_named=True)
    assert versions([one], []).verdict is Verdict.OK
    found = versions([one, other, Asked("http://c", "", "gone")], [])
    assert (found.verdict, found.reason) == (Verdict.WARN, "1.0: http://a; 1.1: http://b")
    assert versions([], []).verdict is Verdict.UNKNOWN


def test_the_worst_verdict_is_that_of_all() -> None:
    assert worst([]) is Verdict.OK
    assert worst([Verdict.OK, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    assert worst([Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN]) is Verdict.FAIL
