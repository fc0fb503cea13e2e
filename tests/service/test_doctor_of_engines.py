"""`purgeline doctor` on a disk, a clock, a Redis and engines: each fault is made, told, and gone again."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import redis

from engine.cli.main import main
from tests.fakes.node import FakeNode
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.engine_process import EngineProcess
from tests.rigs.examined import examined, examined_by
from tests.rigs.redis_servers import RedisServer
from tests.rigs.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHER = "import sys; from engine import _version; _version.__version__ = '9.9.9'; "
OTHER += "from engine.cli.main import main; sys.exit(main())"
INJECT = ("strace", "-qq", "--seccomp-bpf", "-f", "-o", "/dev/null", "-e", "signal=none")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without an engine, whose folder is there."""
    (tmp_path / "var").mkdir()
    path = tmp_path / "engine.toml"
    path.write_text('[engine]\nlisten = "127.0.0.1:1"\n')
    return path


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a small file system."""
    assert os.geteuid() == 0, "mounting a small file system takes root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills(config: Path) -> None:
    """A small one, one that is nearly full, and one on which nothing can be written any more."""
    folder = config.parent / "var"
    with disk(folder, "132m"):
        small = examined(config)
        filler = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(filler, 0, 8 * 1024**2)
        nearly = examined(config)
        with contextlib.suppress(OSError):
            while True:
                os.write(filler, bytes(1 << 20))
        with contextlib.suppress(OSError):
            while True:
                os.write(filler, bytes(4096))
        os.close(filler)
        full = examined(config)
    assert small.verdicts("disk_space", "fsync") == ["warn", "ok"]
    assert nearly.verdicts("disk_space", "fsync") == ["fail", "ok"]
    assert full.verdicts("disk_space", "fsync") == ["fail", "fail"]
    assert "No space left" in full.rows["fsync"]["reason"]


@pytest.mark.parametrize(
    ("delay_ms", "state", "verdicts"), [(20, 0, ["warn", "ok"]), (150, 5, ["fail", "warn"])]
)
def test_a_slow_disk_and_a_clock_that_nobody_keeps(
    config: Path, delay_ms: int, state: int, verdicts: list[str]
) -> None:
    """The kernel's calls take longer, and answer as they do with and without a time server."""
    slow = (
        "-e",
        "trace=fdatasync,adjtimex,clock_adjtime",
        "-e",
        f"inject=fdatasync:delay_enter={delay_ms}ms",
    )
    kept = ("-e", f"inject=adjtimex,clock_adjtime:retval={state}")
    with disk(config.parent / "var", "16m"):  # as quick as can be, but for that
        found = examined_by(config, prefix=[*INJECT, *slow, *kept])
    assert found.verdicts("fsync", "clock") == verdicts
    assert float(found.rows["fsync"]["value"].split()[0]) >= delay_ms


def test_without_an_engine_it_says_what_it_could_not_look_at(config: Path) -> None:
    found = examined(config)
    names = ("open_files", "unit_files", "engine", "versions", "listen_drops", "keep_alive", "nodes")
    assert found.verdicts(*names) == ["not known"] * len(names)
    failing = [one for one in found.verdicts() if one.endswith("fail")]
    assert set(failing) <= {"fsync: fail"}  # as busy as the disk of this machine is
    assert found.code == len(failing)
    named = examined(config, "--engine", "http://127.0.0.1:9,http://127.0.0.1:1")
    assert named.verdicts("engine http://127.0.0.1:9", "engine") == ["fail", "not known"]
    assert "engine http://127.0.0.1:1" not in named.rows
    assert named.code == 1


class OtherVersion(EngineProcess):
    """An engine that is 9.9.9."""

    def _command(self) -> list[str]:
        return [sys.executable, "-c", OTHER]


def test_engines_of_two_versions_on_one_redis(tmp_path: Path) -> None:
    """Told by the Redis alone; with an engine's address also by that."""
    with RedisServer(tmp_path, fsync="always") as server, FakeNode() as node:
        one = cluster_engine(tmp_path, server.url, [node], number=0)
        folder = tmp_path / "engine-1"
        folder.mkdir()
        tables = one.config_path.read_text().partition("[store]")[2]
        other = OtherVersion(folder, f"[store]{tables}", is_forked=False, name="engine-1", drain_timeout_s=5)
        with one:
            with other:
                found = examined(one.config_path, "--engine", f"http://127.0.0.1:{other.port}")
            alone = examined(one.config_path)
    names = ("versions", "engine", "redis_persistence", "redis_eviction")
    assert found.verdicts(*names) == ["warn", "ok", "ok", "ok"]
    versions = found.rows["versions"]
    assert versions["value"] == "2 versions"
    assert f"9.9.9: engine-1, http://127.0.0.1:{other.port}" in versions["reason"]
    assert alone.verdicts(*names) == ["ok"] * len(names)
    assert alone.rows["versions"]["value"] == alone.rows["engine"]["value"] != "9.9.9"


def test_a_redis_that_keeps_no_file_evicts_and_goes_away(config: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none", maxmemory_policy="allkeys-lru") as server:
        config.write_text(f'{config.read_text()}[store]\nurl = "{server.url}"\ntimeout_s = 1\n')
        bad = examined(config)
        with redis.Redis(port=server.port) as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", used + 200_000)
            for number in range(400):
                client.set(f"key-{number}", bytes(1000))
            client.config_set("appendonly", "yes")
            evicting = examined(config)
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendfsync", "everysec")
            better = examined(config)
    gone = examined(config)
    assert bad.verdicts("redis_persistence", "redis_eviction") == ["fail", "fail"]
    assert bad.rows["redis_eviction"]["value"] == "allkeys-lru"
    assert "appendonly yes" in bad.rows["redis_persistence"]["remedy"]
    assert "it has evicted" in evicting.rows["redis_eviction"]["reason"]
    assert better.verdicts("redis_persistence", "redis_eviction") == ["warn", "warn"]
    assert "appendfsync" in better.rows["redis_persistence"]["reason"]
    assert gone.verdicts("redis") == ["fail"]
    assert "redis_eviction" not in gone.rows


def test_clocks_that_differ_from_that_of_redis(config: Path, tmp_path: Path) -> None:
    """This host's clock by some seconds, and Redis's by many."""
    clock = WallClock(tmp_path)
    with RedisServer(tmp_path, clock=clock) as server:
        config.write_text(f'{config.read_text()}[store]\nurl = "{server.url}"\n')
        assert examined(config).verdicts("clock_offset") == ["ok"]
        clock.set(-3)
        ahead = examined(config).rows["clock_offset"]
        clock.set(60)
        behind = examined(config).rows["clock_offset"]
    assert (ahead["verdict"], behind["verdict"]) == ("warn", "fail")
    assert float(ahead["value"].split()[0]) == pytest.approx(3, abs=0.5)
    assert float(behind["value"].split()[0]) == pytest.approx(-60, abs=0.5)
    assert "this host is behind" in behind["reason"]


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_of_80_columns_has_room_for_all_of_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of values, and below it what is not in order, and what mends that."""
    config.write_text(
        f'{config.read_text()}[[node]]\nname = "edge-frankfurt-2"\ndriver = "ats"\nurl = "http://127.0.0.1:1"\n'
    )
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["doctor", "--config", str(config)]) == 1
    assert isinstance(sys.stdout, Terminal)
    lines = re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    assert "no room" not in "".join(lines)
    assert lines[1].split() == ["name", "verdict", "value", "limit"]
    assert re.search(r"node edge-frankfurt-2 +cannot .* +start the ", "\n".join(lines))
