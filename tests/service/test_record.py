"""``purgeline record``: the traffic of a real engine, written to a file."""

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main as cli
from engine.recordings.encoder import Encoder
from engine.recordings.frames import frames_of
from release.lab.caches import free_port
from tests.fakes.htcp_clients import htcp_client, mediawiki
from tests.fakes.node import FakeNode
from tests.rigs.cdni import Upstream, cdni_table, client_table
from tests.rigs.door import access, door_table
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import RawClient
from tests.rigs.redis_door import Bus, redis_door_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

SEPARATOR = "\n🐵🙈🙉\n".encode()
TOKEN = "t0ken-of-a-client"
ACCESS = access("img.example.com", sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
SECRET = "s3cret-of-a-callback"
BIG = b"x" * (8 * 1024 * 1024 - 1)


class Command:
    """``purgeline record`` under way."""

    def __init__(self, port: int, file: Path, *options: str, before: str = "") -> None:
        command = [sys.executable, "-m", "engine", "record", "--output-file", str(file), *options]
        command += ["--engine", f"http://127.0.0.1:{port}"]
        self.errors = file.with_suffix(".errors")
        self.output = file.with_suffix(".output")
        with self.errors.open("wb") as errors, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                ["sh", "-c", f'{before} exec "$@"', "sh", *command],
                stdout=output,
                stderr=errors,
                env={**os.environ, "PURGELINE_TOKEN": TOKEN},
            )

    def said(self) -> str:
        return self.errors.read_text()

    def end(self, signum: int = signal.SIGINT) -> tuple[int, dict[str, Any]]:
        """Break it off; return its exit code and what it has recorded."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> tuple[int, dict[str, Any]]:
        code = self.process.wait(20)
        assert "Traceback" not in self.said()
        words = [line.split(None, 1) for line in self.output.read_text().splitlines()]
        return code, {name: int(rest) for name, rest in words if rest.isdecimal()}


def messages(text: bytes) -> list[tuple[list[bytes], bytes]]:
    """Read a recording as the format says, without the engine's own reader."""
    *parts, rest = text.split(SEPARATOR)
    assert not rest
    return [(line.split(b" "), message) for line, _, message in (part.partition(b"\n") for part in parts)]


def recorded_by(command: Command) -> set[str]:
    """Return the workers that the command is connected with."""
    said = command.said().rpartition("connected again")[2]
    return set(re.findall(r"(worker \S+) is recorded", said))


def packed(file: Path) -> list[tuple[list[bytes], bytes]]:
    """Read a compressed one."""
    return messages(gzip.decompress(file.read_bytes()))


@contextlib.contextmanager
def asking(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"session={TOKEN}", "X-Api-Key": TOKEN}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def recorders(engine: EngineProcess) -> int:
    """Return the status of one more recording, which ends at once."""
    with asking(engine.port) as connection:
        connection.request(
            "GET", "/v1/engine/recording?seconds=0.1", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        return connection.getresponse().status


def hand_in(port: int, name: str, count: int) -> None:
    for number in range(count):
        with asking(port) as connection:  # each may be another worker's
            body = json.dumps({"id": f"{name}-{number}", "targets": [f"http://img.example.com/{number}"]})
            status, _ = ask(connection, "POST", "/v1/engine/task", body.encode())
            assert status == 202
            status, _ = ask(connection, "GET", f"/v1/engine/task/{name}-{number}")
            assert status == 200


@pytest.mark.slow
def test_what_clients_and_doors_do_is_recorded_in_all_workers_across_a_reload_and_replays_alike(
    tmp_path: Path,
) -> None:
    door = free_port()
    with FakeNode() as node:
        tables = fake_table(node.url, name="edge-1") + ACCESS + door_table(door)
        with SupervisedEngine(tmp_path, tables, workers=2) as engine:
            file = tmp_path / "traffic.gor.gz"
            command = Command(engine.port, file)
            wait_until(lambda: {"worker 0.1", "worker 1.2"} <= recorded_by(command))
            hand_in(engine.port, "before", 12)
            with asking(engine.port) as connection:
                told = {"callback": f"https://u:{SECRET}@a.example.com/?k={SECRET}"}
                body = json.dumps({**told, "targets": ["http://img.example.com/"]}).encode()
                assert ask(connection, "POST", "/v1/engine/task", body)[0] == 422
                assert ask(connection, "GET", "/v1/engine/nodes")[0] == 200
                assert ask(connection, "GET", f"/v1/engine/nodes?access_token={TOKEN}")[0] == 422
            with socket.create_connection(("127.0.0.1", door), timeout=10) as client:
                client.sendall(b"PURGE /door HTTP/1.1\r\nHost: img.example.com\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            engine.reload()
            wait_until(lambda: {"worker 0.3", "worker 1.4"} <= recorded_by(command))
            hand_in(engine.port, "after", 12)
            wait_until(lambda: len(packed(file)) == 2 * (24 + 4 + 24), errors=(EOFError,))
            code, document = command.end()
            assert (code, document["reconnected"], document["dropped"]) == (0, 1, 0), command.said()
            assert document["recorded"] == 24 + 4 + 24
            assert file.stat().st_mode & 0o777 == 0o600

            text = gzip.decompress(file.read_bytes())
            assert TOKEN.encode() not in text
            assert SECRET.encode() not in text
            read = messages(text)
            requests = {line[1]: (int(line[2]), message) for line, message in read if line[0] == b"1"}
            answers = {line[1]: (int(line[2]), int(line[3])) for line, _ in read if line[0] == b"2"}
            assert requests.keys() == answers.keys()
            assert all(answers[key][0] == at + answers[key][1] for key, (at, _) in requests.items())
            assert len({key[:12] for key in requests}) == 4, "two workers, before and after"
            assert [at for at, _ in requests.values()] == sorted(at for at, _ in requests.values())
            assert any(b"purgeline-door-purge" in message for _, message in requests.values())

            replay = [
                sys.executable,
                "-m",
                "engine",
                "replay",
                str(file),
                "--speed",
                "max",
                "--json",
                "--keep-callbacks",
            ]
            done = subprocess.run(
                [*replay, "--engine", f"http://127.0.0.1:{engine.port}"],
                capture_output=True,
                check=False,
                timeout=60,
                env={**os.environ, "PURGELINE_TOKEN": TOKEN},
            )
            report = json.loads(done.stdout)
            assert (done.returncode, report["compared"], report["different"]) == (0, 52, 0), report
        assert "Traceback" not in engine.log()


@pytest.mark.redis
def test_what_comes_by_any_door_is_recorded_as_its_task_and_replays_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what a door's task is refused for; a datagram, an entry, a message and a trigger are no HTTP."""
    site, doors, file = "img.example.com", [free_port() for _ in range(3)], tmp_path / "traffic.gor"
    with RedisServer(tmp_path) as server, FakeNode() as node:
        tables = fake_table(node.url, name="edge-1") + ACCESS + client_table("upstream", site)
        tables += door_table(doors[0]) + door_table(doors[1], kind="htcp") + redis_door_table(server.url)
        tables += cdni_table(doors[2])
        bus = Bus(server)
        with EngineProcess(tmp_path, tables) as engine, asking(engine.port) as recording:
            wait_until(lambda: bus.has_group() and bus.listeners(), what="the door reading")
            recording.request("GET", "/v1/engine/recording", headers={"Authorization": f"Bearer {TOKEN}"})
            frames = frames_of(recording.getresponse())
            with RawClient(doors[0]) as client:
                client.ask(b"PURGE /purge HTTP/1.1\r\nHost: img.example.com\r\n\r\n")
            with htcp_client(doors[1]) as sender:
                sender.send(mediawiki(f"http://{site}/htcp"))
            bus.add("/entry")
            bus.add_body('{"targets": []}')
            bus.publish("purge", "/message")
            Upstream(doors[2], "upstream").create("purge", **{"content.urls": [f"http://{site}/trigger"]})
            encoder, text = Encoder("00000000beef"), b""
            while text.count(SEPARATOR) < 12:
                text += b"".join(entry for _, entry in encoder.encode(*next(frames)))
            file.write_bytes(text)
            read = messages(text)
            asked = [message for line, message in read if line[0] == b"1"]
            said = [message.split(b" ", 2)[1] for line, message in read if line[0] == b"2"]
            assert all(message.startswith(b"POST /v1/engine/task HTTP/1.1\r\n") for message in asked)
            found = sorted((re.findall(rb"purgeline-door-(\w+)", one)[0], b"/htcp" in one) for one in asked)
            kinds = [(b"cdni", False), (b"htcp", True), (b"purge", False), *[(b"redis", False)] * 3]
            assert found == kinds
            assert sorted(said) == [b"202"] * 5 + [b"422"]
            monkeypatch.setenv("PURGELINE_TOKEN", TOKEN)
            words = [
                "replay",
                str(file),
                "--speed",
                "max",
                "--json",
                "--engine",
                f"http://127.0.0.1:{engine.port}",
            ]
            assert cli.main(words) == 0
            report = json.loads(capsys.readouterr().out)
            assert (report["compared"], report["different"]) == (6, 0), report
            paths = ("purge", "htcp", "entry", "message", "trigger")
            wait_until(lambda: all(node.urls.count(f"http://{site}/{path}") == 2 for path in paths))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with (
        FakeNode() as node,
        EngineProcess(
            tmp_path_factory.mktemp("record"), fake_table(node.url, name="edge-1") + ACCESS, log_audit=True
        ) as running,
    ):
        yield running
        assert "Traceback" not in running.log()


def stuck(port: int) -> socket.socket:
    """Return a client that records and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    request = f"GET /v1/engine/recording HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    client.sendall(request.encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def test_a_client_that_does_not_read_holds_nothing_back_and_is_told_what_was_dropped(
    engine: EngineProcess,
) -> None:
    with stuck(engine.port) as client, asking(engine.port) as connection:
        for _ in range(14):
            assert ask(connection, "POST", "/v1/engine/task", BIG)[0] == 400
        began = time.monotonic()
        assert ask(connection, "GET", "/v1/engine/version")[0] == 200
        assert time.monotonic() - began < 15
        text = b""
        client.settimeout(20)
        while b'"dropped":' not in text:
            text = text[-100:] + client.recv(4 * 1024 * 1024)
    wait_until(lambda: recorders(engine) == 200)


def test_a_recording_ends_with_its_client_and_is_told_in_the_audit(
    engine: EngineProcess, tmp_path: Path
) -> None:
    command = Command(engine.port, tmp_path / "killed.gor")
    other = stuck(engine.port)
    wait_until(lambda: recorders(engine) == 409)
    command.process.kill()
    command.process.wait()
    wait_until(lambda: recorders(engine) == 200)
    other.close()
    assert '"request":"GET /v1/engine/recording begins"' in engine.log()
    assert engine.log().count('"request":"GET /v1/engine/recording"') >= 1, "and when it ended"


def test_a_full_disk_ends_a_recording_that_can_be_read(engine: EngineProcess, tmp_path: Path) -> None:
    file = tmp_path / "full.gor"
    commands: list[Command] = []

    def begun() -> bool:  # those of the test before may still be ending, and two are the most
        if not commands or commands[-1].process.poll() is not None:
            commands.append(Command(engine.port, file, before="ulimit -f 40;"))  # blocks of 512 bytes
        return file.exists()

    wait_until(begun)
    command = commands[-1]
    for turn in range(100):
        hand_in(engine.port, f"full-{turn}", 5)
        if command.process.poll() is not None:
            break
    code, document = command.wait()
    assert code == 1
    assert "too large" in command.said()
    read = messages(file.read_bytes())
    assert sum(line[0] == b"1" for line, _ in read) == document["recorded"] > 0


def test_a_recording_ends_after_its_time_in_chunks_with_a_sample_of_the_requests(
    engine: EngineProcess, tmp_path: Path
) -> None:
    options = ("--duration", "2", "--chunk-bytes", "2K", "--sample", "50%")
    command = Command(engine.port, tmp_path / "part.gor", *options)
    wait_until((tmp_path / "part_0.gor").exists)
    hand_in(engine.port, "part", 20)
    code, document = command.wait()
    assert code == 0, command.said()
    assert 0 < document["recorded"] < 26
    files = sorted(tmp_path.glob("part_*.gor"))
    assert len(files) == document["files"] > 1
    read = [message for file in files for message in messages(file.read_bytes())]
    assert len(read) == 2 * document["recorded"]
    again = Command(engine.port, tmp_path / "part.gor", "--chunk-bytes", "2K")
    assert again.process.wait(20) == 1
    assert "is there already" in again.said()


def test_without_an_engine_the_exit_code_is_3_and_without_the_scope_2(
    engine: EngineProcess, tmp_path: Path
) -> None:
    assert Command(free_port(), tmp_path / "a.gor").process.wait(20) == 3
    assert Command(engine.port, tmp_path / "a.gor", "--token", "nobody").process.wait(20) == 2
    assert not (tmp_path / "a.gor").exists()


def reset_a_look(port: int) -> None:
    """Ask for what takes a while, and reset the connection before its answer begins."""
    head = f"GET /v1/engine/debug/gc?seconds=5 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(head.encode())
        time.sleep(0.05)  # a reset takes back what is not read yet


def streamed(connection: http.client.HTTPConnection) -> http.client.HTTPResponse | None:
    """Begin a recording; None while those of others have not ended yet."""
    connection.request("GET", "/v1/engine/recording", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    if response.status == 200:
        return response
    response.read()
    return None


def test_a_client_that_resets_its_connection_ends_no_recording(engine: EngineProcess) -> None:
    with asking(engine.port) as recording:
        stream = wait_until(lambda: streamed(recording))
        assert stream is not None
        frames, encoder, text = frames_of(stream), Encoder("00000000beef"), b""
        while b"HTTP/1.1 499 \r\n" not in text:  # the first mostly does
            reset_a_look(engine.port)
            text += b"".join(entry for _, entry in encoder.encode(*next(frames)))
        hand_in(engine.port, "behind-it", 1)
        while b"/task/behind-it-0 " not in text:
            text += b"".join(entry for _, entry in encoder.encode(*next(frames)))
    assert encoder.unwritable == 0
