"""Alerts at those who receive them: a real Alertmanager, a real mail server."""

import asyncio
import email
import email.header
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import client
from engine.base.timer import Timer
from engine.cli import main as cli
from engine.config.tables import AlertConfig
from engine.notify import alerts as module
from engine.notify.formats import Alert
from engine.notify.mail import Mailer
from engine.notify.outbox import Outbox
from engine.observe.counters import Stats
from engine.tasks.records import Silence
from release.lab.caches import free_port
from tests.waiting import until, wait_until


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the end of the block."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            wait_until(lambda: _listens(port), what=f"{command[0]} on port {port}")
            yield
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@asynccontextmanager
async def outbox(config: AlertConfig) -> AsyncIterator[tuple[Outbox, Stats]]:
    timer, stats = Timer(asyncio.get_running_loop(), granularity_s=0.01), Stats()
    box = Outbox([], config, timer, on_settled=lambda *_: None, stats=stats)
    await box.start()
    try:
        yield box, stats
    finally:
        await box.drain(5)
        timer.close()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Run an Alertmanager; its address."""
    port = free_port()
    (tmp_path / "am.yml").write_text("route:\n  receiver: none\nreceivers:\n- name: none\n")
    command = [
        str(shutil.which("prometheus-alertmanager")),
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/am",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, port, tmp_path / "am.log"):
        yield f"http://127.0.0.1:{port}"


def _alerts_of(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


async def _shows(url: str, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Wait until the alerts there are as they should be; return them."""

    def look() -> list[dict[str, Any]] | None:
        found = _alerts_of(url)
        return found if is_so(found) else None

    found = await asyncio.to_thread(wait_until, look, what="the alerts")
    assert found is not None
    return found


async def test_a_real_alertmanager_shows_an_alert_until_it_is_over(
    alertmanager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.2)
    config = AlertConfig(url=f"{alertmanager}/api/v2/alerts", format="alertmanager")
    async with outbox(config) as (box, stats):
        box.alert("node:edge-1", "warning", "edge-1 is slow", node="edge-1", layer="edge")
        box.alert("full:saver", "warning", "clients are answered 503")
        found = await _shows(alertmanager, lambda found: len(found) == 2)
        [node] = [each for each in found if each["labels"]["alertname"] == "PurgelineNode"]
        assert (node["labels"]["node"], node["annotations"]["severity"]) == ("edge-1", "warning")
        heard_at = node["updatedAt"]
        await _shows(alertmanager, lambda found: any(each["updatedAt"] > heard_at for each in found))
        box.alert("node:edge-1", "error", "edge-1 is down", node="edge-1", layer="edge")
        worse = await _shows(
            alertmanager, lambda found: any(each["annotations"]["severity"] == "error" for each in found)
        )
        [node] = [each for each in worse if each["labels"]["alertname"] == "PurgelineNode"]
        assert node["annotations"]["changed"] == "warning before, error now"
        box.alert("node:edge-1", "resolved", "edge-1 is back", node="edge-1", layer="edge")
        left = await _shows(alertmanager, lambda found: len(found) == 1)
        assert left[0]["labels"]["alertname"] == "PurgelineFull"
        await until(lambda: stats.alerts_sent == 4)


def silence(until: float) -> Silence:
    return Silence("s1", ["kind=node"], "new disks", "ops", time.time(), until)


async def test_a_real_alertmanager_hears_of_what_is_silenced_when_that_ends_and_it_is_still_on(
    alertmanager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what it had heard of before it hears on, for it would take that as over."""
    monkeypatch.setattr(module, "AGAIN_S", 0.1)
    config = AlertConfig(url=f"{alertmanager}/api/v2/alerts", format="alertmanager")
    async with outbox(config) as (box, stats):
        box.alert("node:edge-1", "error", "edge-1 is down", node="edge-1")
        [first] = await _shows(alertmanager, lambda found: len(found) == 1)
        box.silence([silence(time.time() + 60)])
        box.alert("node:edge-2", "error", "edge-2 is down", node="edge-2")
        box.alert("node:edge-3", "error", "edge-3 is down", node="edge-3")
        box.alert("node:edge-3", "resolved", "edge-3 is back", node="edge-3")
        [same] = await _shows(alertmanager, lambda found: found[0]["updatedAt"] > first["updatedAt"])
        assert same["fingerprint"] == first["fingerprint"]
        assert [one["key"] for one in box.silenced.shown()] == ["node:edge-1", "node:edge-2"]
        box.silence([silence(time.time())])
        found = await _shows(alertmanager, lambda found: len(found) == 2)
        changed = {each["labels"]["node"]: each["annotations"]["changed"] for each in found}
        assert changed["edge-2"].startswith("still on since 2")
        assert changed["edge-2"].endswith("; was silenced by ops: new disks")
        await until(lambda: stats.alerts_sent == 3)


async def test_a_real_mail_server_gets_what_is_new_and_what_is_over(tmp_path: Path) -> None:
    port = free_port()
    command = ["/usr/bin/python3", "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}"]
    command += ["-c", "aiosmtpd.handlers.Mailbox", str(tmp_path / "mail")]
    config = AlertConfig(
        smtp_url=f"smtp://127.0.0.1:{port}", mail_from="purgeline@example.com", mail_to=["ops@example.com"]
    )
    with running(command, port, tmp_path / "mail.log"):
        async with outbox(config) as (box, stats):
            box.alert("node:edge-1", "error", "edge-1 is down: ütf\nBcc: x@example.com", node="edge-1")
            await until(lambda: stats.alerts_sent == 1)
            box.alert("node:edge-1", "resolved", "edge-1 is back", node="edge-1")
            await until(lambda: stats.alerts_sent == 2)
            box.silence([silence(time.time() + 60)])
            box.alert("node:edge-1", "error", "edge-1 is away", node="edge-1")
            assert len(box.silenced) == 1
            box.silence([silence(time.time())])
            await until(lambda: stats.alerts_sent == 3)
    mails = [email.message_from_bytes(each.read_bytes()) for each in (tmp_path / "mail" / "new").iterdir()]
    subjects = sorted(str(email.header.make_header(email.header.decode_header(m["Subject"]))) for m in mails)
    assert subjects == [
        "purgeline: error: edge-1 is away",
        "purgeline: error: edge-1 is down: ütf Bcc: x@example.com",
        "purgeline: resolved: edge-1 is back",
    ]
    assert sum("changed:  still on since" in str(mail) for mail in mails) == 1
    assert {mail["Bcc"] for mail in mails} == {None}
    assert len({mail["References"] for mail in mails}) == 1


def test_an_outbox_that_grows_old_tells_a_real_alertmanager_and_by_mail(
    alertmanager: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alertmanager with every run, the mail once; a mail server that is away is asked again."""
    port = free_port()
    config = tmp_path / "alert.toml"
    config.write_text(
        f'[alert]\nurl = "{alertmanager}/api/v2/alerts"\nformat = "alertmanager"\n'
        f'smtp_url = "smtp://127.0.0.1:{port}"\nmail_from = "a@example.com"\nmail_to = ["b@example.com"]\n'
    )
    spool = client.Outbox(tmp_path / "outbox")
    spool.put("t1", b'{"targets":["http://img.example.com/a"]}')
    [entry] = spool.entries()
    entry.path.rename(entry.path.with_name(f"{time.time_ns() - 90 * 10**9:020d}-t1.task"))
    words = ["outbox", "send", "--engine", "http://127.0.0.1:1", "--outbox", str(spool.folder)]
    words += ["--alert-after", "1", "--alert-config", str(config)]
    assert cli.main(words) == 3
    assert "the alert was not delivered: ConnectionRefusedError" in capsys.readouterr().err
    [alert] = _alerts_of(alertmanager)
    assert (alert["labels"]["alertname"], alert["annotations"]["changed"]) == ("PurgelineOutbox", "new")
    command = ["/usr/bin/python3", "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}"]
    command += ["-c", "aiosmtpd.handlers.Mailbox", str(tmp_path / "mail")]
    with running(command, port, tmp_path / "mail.log"):
        for _ in range(2):
            assert cli.main(words) == 3
        [again] = _alerts_of(alertmanager)
        assert again["updatedAt"] > alert["updatedAt"]
        assert again["annotations"]["changed"].startswith("goes on for")
        assert cli.main(["outbox", "drop", "--all", "--outbox", str(spool.folder)]) == 0
        assert cli.main(words) == 0
    assert _alerts_of(alertmanager) == []
    mails = [email.message_from_bytes(each.read_bytes()) for each in (tmp_path / "mail" / "new").iterdir()]
    assert sorted(str(mail["Subject"]).split(":")[1] for mail in mails) == [" error", " resolved"]
    assert not (spool.folder / ".alerted").exists()


async def test_a_mail_server_that_is_away_is_asked_again_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    port = free_port()
    config = AlertConfig(
        smtp_url=f"smtp://127.0.0.1:{port}", mail_from="purgeline@example.com", mail_to=["ops@example.com"]
    )
    alert = Alert("k", "error", "m", {}, 1.0, "h")
    assert not (await Mailer(config).send(alert)).is_final
    command = ["/usr/bin/python3", "-m", "aiosmtpd", "-n", "-s", "100", "-l", f"127.0.0.1:{port}"]
    with running(command, port, tmp_path / "mail.log"):
        answer = await Mailer(config).send(alert)
    assert answer.is_final
    assert not answer.is_delivered
    assert "552" in answer.reason
