"""Running operations on hosts: this machine, a real sshd on loopback, and hosts that are not there."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from release.agent import package
from release.errors import ReleaseError
from release.hosts.remote import Fleet, Outcome, complete, fan_out, sha256_of
from release.inventory import LOCAL, Host
from release.settings import Settings
from tests.rigs.sshd import Sshd

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "agent"

needs_sshd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sshd", path="/usr/sbin") is None, reason="needs root and sshd"
)


class Events:
    """Keeps progress, and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._some = threading.Condition()

    def __call__(self, host: str, event: dict[str, Any], /) -> None:
        with self._some:
            self.seen.append((host, event))
            self._some.notify_all()

    def wait_for(self, name: str, count: int = 1) -> None:
        with self._some:
            arrived = self._some.wait_for(
                lambda: sum(event["event"] == name for _, event in self.seen) >= count, timeout=20
            )
        assert arrived, self.seen


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet([Host(name=LOCAL)], Settings(), root=str(tmp_path), agent=FAKE) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")).running() as server:
        yield server


def settings_for(server: Sshd, folder: Path, *, known: str | None = None, **more: Any) -> Settings:
    """Return settings that know the server's key, or what *known* says instead."""
    path = folder / "known_hosts"
    path.write_text(server.known_hosts_line if known is None else known)
    more = {"connect_timeout_s": 5, **more}
    return Settings(known_hosts=str(path), ssh_key_file=str(server.key), **more)


def ssh_host(server: Sshd, name: str = "web") -> Host:
    return Host(name=name, address="127.0.0.1", port=server.port, user="root")


@contextlib.contextmanager
def ssh_fleet(server: Sshd, folder: Path, **more: Any) -> Iterator[Fleet]:
    with Fleet(
        [ssh_host(server)], settings_for(server, folder, **more), root=str(folder / "root"), agent=FAKE
    ) as fleet:
        yield fleet


# --- this machine ------------------------------------------------------------------------------


def test_the_local_host_runs_the_agent_without_ssh(local: Fleet) -> None:
    """The root is added to the request, and nothing else."""
    outcome = local.run("echo", {"version": "1.0"})[LOCAL]
    assert outcome.ok
    assert outcome.answer["request"] == {"root": local.root, "version": "1.0"}
    assert outcome.duration_s > 0


def test_a_request_may_differ_from_host_to_host(local: Fleet) -> None:
    """It is a function of the name then."""
    assert local.run("echo", lambda name: {"me": name})[LOCAL].answer["request"]["me"] == LOCAL


def test_progress_arrives_in_order(local: Fleet) -> None:
    """Each line with the name of its host."""
    local.on_event = events = Events()
    assert local.run("progress")[LOCAL].ok
    assert [(host, event["number"]) for host, event in events.seen] == [(LOCAL, 0), (LOCAL, 1), (LOCAL, 2)]


def test_a_refusal_has_kind_reason_and_log(local: Fleet) -> None:
    """As the agent gave them."""
    outcome = local.run("refuse")[LOCAL]
    assert (outcome.ok, outcome.kind, outcome.reason) == (False, "disk", "no space left")
    assert outcome.log == ["one", "two"]
    assert outcome.is_answered


def test_noise_around_the_answer_does_no_harm(local: Fleet) -> None:
    """Banners, other JSON, megabytes on standard error, a long line."""
    outcome = local.run("noise", timeout_s=20)[LOCAL]
    assert outcome.ok
    assert len(outcome.answer["big"]) == 300_000


@pytest.mark.parametrize(
    ("op", "kind", "reason"),
    [
        ("silent", "protocol", "no answer, exit code 1: KeyError: 'what'"),
        ("killed", "timeout", "took longer"),
        ("nonsense", "usage", "unknown operation 'nonsense'"),
    ],
)
def test_an_operation_without_an_answer_says_what_there_was(
    local: Fleet, op: str, kind: str, reason: str
) -> None:
    """An outcome, not an exception."""
    outcome = local.run(op)[LOCAL]
    assert not outcome.ok
    if op != "killed":  # timeout(1) passes the signal on in more than one way
        assert outcome.kind == kind
        assert reason in outcome.reason
    assert outcome.is_answered is (op == "nonsense")


def test_a_step_that_hangs_is_ended_after_its_time(local: Fleet, tmp_path: Path) -> None:
    """Its process too."""
    local.on_event = events = Events()
    outcome = local.run("wait", {"until": str(tmp_path / "never")}, timeout_s=1)[LOCAL]
    assert (outcome.kind, outcome.reason) == ("timeout", "took longer than 1 s and was ended")
    assert not Path(f"/proc/{events.seen[0][1]['pid']}").exists()


def test_a_process_that_was_left_behind_holds_up_nothing(local: Fleet) -> None:
    """Even when it kept the pipes."""
    began = time.monotonic()
    assert local.run("leaves-a-child", {"for_s": 60})[LOCAL].ok
    assert time.monotonic() - began < 45


def test_a_missing_agent_is_an_outcome(tmp_path: Path) -> None:
    """Python says which folder."""
    with Fleet([Host(name=LOCAL)], Settings(), root="/r", agent=tmp_path / "gone") as fleet:
        assert "gone" in fleet.run("echo")[LOCAL].reason


# --- a set of hosts ----------------------------------------------------------------------------


def test_no_more_hosts_at_once_than_asked_for() -> None:
    """And each of them exactly once."""
    lock, running, peak = threading.Lock(), 0, 0

    def work(name: str) -> Outcome:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return Outcome(host=name, op="x", ok=True)

    names = [f"h{number}" for number in range(20)]
    found = fan_out(names, work, 4, 10)
    assert sorted(found) == sorted(names)
    assert peak == 4


def test_a_host_that_hangs_past_every_limit_is_missing_and_holds_up_nobody() -> None:
    """The step ends, and names it."""
    release = threading.Event()

    def work(name: str) -> Outcome:
        if name == "stuck":
            release.wait(20)
        return Outcome(host=name, op="x", ok=True)

    found = complete(["stuck", "fine"], "x", fan_out(["stuck", "fine"], work, 1, 0.5))
    release.set()
    assert list(found) == ["stuck", "fine"]
    assert found["fine"].ok
    assert (found["stuck"].kind, found["stuck"].is_answered) == ("missing", False)


def test_an_answer_of_somebody_who_was_not_asked_is_an_error() -> None:
    """The set that answered is the set that was asked."""
    with pytest.raises(ReleaseError, match="not asked: b"):
        complete(["a"], "x", {"b": Outcome(host="b", op="x", ok=True)})


def test_two_hosts_of_one_name_are_refused() -> None:
    """Their outcomes would hide each other."""
    with pytest.raises(ReleaseError, match="not unique"):
        Fleet([Host(name="a"), Host(name="a")], Settings(), root="/r", agent=FAKE)


# --- by SSH ------------------------------------------------------------------------------------


def placed(root: Path) -> Path:
    """Return where the agent is on a host, by the digest of its files."""
    return root / "cache" / f"agent-{package.digest_of(package.contents(FAKE))}"


@needs_sshd
def test_an_operation_by_ssh(sshd: Sshd, tmp_path: Path) -> None:
    """The agent is brought over once, under its digest, and nothing else ever gets into its folder."""
    (tmp_path / "root").mkdir()
    with ssh_fleet(sshd, tmp_path) as fleet:
        fleet.on_event = events = Events()
        assert fleet.run("progress")["web"].ok
        assert len(events.seen) == 3
        agent = placed(tmp_path / "root")
        before = agent.stat()
        assert fleet.run("noise")["web"].ok
        assert fleet.run("refuse")["web"].kind == "disk"
    with ssh_fleet(sshd, tmp_path) as fleet:  # and it is not sent again
        assert fleet.run("echo")["web"].ok
    assert before.st_ino == agent.stat().st_ino
    assert list(agent.parent.iterdir()) == [agent]
    assert package.is_placed(package.contents(FAKE), agent)


@needs_sshd
@pytest.mark.parametrize(
    "damage",
    [
        lambda agent: (agent / "__main__.py").write_text("raise SystemExit('half a file')"),
        lambda agent: (agent / "__main__.py").unlink(),
        lambda agent: (agent / "json.py").write_text("raise SystemExit('not ours')"),
        lambda agent: (agent / "__pycache__").mkdir(),
    ],
    ids=["changed", "missing", "one too many", "bytecode"],
)
def test_a_damaged_agent_on_the_host_is_replaced(
    sshd: Sshd, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """The folder's name says what its files must be."""
    agent = placed(tmp_path / "root")
    shutil.copytree(FAKE, agent, ignore=shutil.ignore_patterns("__pycache__"))
    damage(agent)
    with ssh_fleet(sshd, tmp_path) as fleet:
        assert fleet.run("echo")["web"].ok
    assert package.is_placed(package.contents(FAKE), agent)
    assert list(agent.parent.iterdir()) == [agent]


@needs_sshd
def test_an_agent_that_cannot_be_written_is_an_outcome(sshd: Sshd, tmp_path: Path) -> None:
    """Nothing of it is left on a disk without room."""
    root = tmp_path / "root"
    (root / "cache").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", str(root / "cache")], check=True)
    try:
        with ssh_fleet(sshd, tmp_path) as fleet:
            outcome = fleet.run("echo")["web"]
        assert list((root / "cache").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(root / "cache")], check=True)
    assert outcome.kind == "upload"
    assert f"cannot write {placed(root)}: No space left on device" in outcome.reason


@needs_sshd
def test_a_file_is_brought_over_once(sshd: Sshd, tmp_path: Path) -> None:
    """Bytes are the same; the second time none are sent."""
    source = tmp_path / "artefact.tar.gz"
    source.write_bytes(os.urandom(3_000_000))
    (tmp_path / "root").mkdir()
    with ssh_fleet(sshd, tmp_path) as fleet:
        first = fleet.run("echo", files={"web": source})["web"]
        assert first.ok, first.reason
        target = Path(first.answer["request"]["file"])
        assert target == tmp_path / "root" / "cache" / source.name
        assert sha256_of(target) == sha256_of(source)
        inode = target.stat().st_ino
        assert fleet.run("echo", files={"web": source})["web"].ok
        assert target.stat().st_ino == inode


@needs_sshd
def test_a_host_that_cannot_take_a_file_says_so(sshd: Sshd, tmp_path: Path) -> None:
    """The folder is a file."""
    (tmp_path / "root").write_text("in the way")
    with ssh_fleet(sshd, tmp_path) as fleet:
        outcome = fleet.run("echo")["web"]
    assert outcome.kind == "upload"
    assert "cannot make" in outcome.reason


@needs_sshd
def test_an_unknown_host_key_is_refused_and_the_cure_named(sshd: Sshd, tmp_path: Path) -> None:
    """Nothing is run there."""
    with ssh_fleet(sshd, tmp_path, known="") as fleet:
        outcome = fleet.run("echo")["web"]
    assert outcome.kind == "host-key"
    assert "SHA256:" in outcome.reason
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {tmp_path}/known_hosts" in outcome.reason
    assert not (tmp_path / "root").exists()


@needs_sshd
def test_another_host_key_is_refused_as_another(sshd: Sshd, tmp_path: Path) -> None:
    """That is not the same as an unknown one."""
    other = (sshd.folder / "key.pub").read_text()
    with ssh_fleet(sshd, tmp_path, known=f"[127.0.0.1]:{sshd.port} {other}") as fleet:
        outcome = fleet.run("echo")["web"]
    assert outcome.kind == "host-key"
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in outcome.reason


@needs_sshd
def test_a_host_with_a_certificate_is_known_by_its_authority(tmp_path: Path) -> None:
    """Beside lines that cannot be read; and revoking the authority shuts the host out."""
    server = Sshd(tmp_path / "sshd")
    authority = Sshd(tmp_path / "authority").key  # any key will do
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-h", "-I", "web", "-n", "127.0.0.1"]
    subprocess.run([*sign, server.folder / "host_key.pub"], check=True)
    with (server.folder / "sshd_config").open("a") as config:
        config.write(f"HostCertificate {server.folder}/host_key-cert.pub\n")
    public = authority.with_suffix(".pub").read_text()
    known = f"half a line\n@cert-authority 127.0.0.* {public}"
    with server.running():
        with ssh_fleet(server, tmp_path, known=known) as fleet:
            assert fleet.run("echo")["web"].ok
        with ssh_fleet(server, tmp_path, known=f"{known}@revoked * {public}") as fleet:
            outcome = fleet.run("echo")["web"]
    assert outcome.kind == "host-key"
    assert "its certificate is signed by an authority that is revoked" in outcome.reason


@needs_sshd
def test_a_login_that_is_refused_says_who_was(sshd: Sshd, tmp_path: Path) -> None:
    """With the user's name."""
    stranger = Sshd(tmp_path / "stranger").key
    settings = Settings(known_hosts=settings_for(sshd, tmp_path).known_hosts, ssh_key_file=str(stranger))
    with Fleet([ssh_host(sshd)], settings, root="/r", agent=FAKE) as fleet:
        outcome = fleet.run("echo")["web"]
    assert outcome.kind == "auth"
    assert "does not let root in" in outcome.reason


@needs_sshd
def test_hosts_that_are_not_there_are_outcomes_beside_one_that_is(sshd: Sshd, tmp_path: Path) -> None:
    """Refused, silent and unknown ones, all in bounded time."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)  # accepts and says nothing
        closed.bind(("127.0.0.1", 0))
        hosts = [
            Host(name="closed", address="127.0.0.1", port=closed.getsockname()[1]),
            ssh_host(sshd),
            Host(name="silent", address="127.0.0.1", port=silent.getsockname()[1]),
            Host(name="nameless", address="no-such-host.invalid"),
        ]
        settings = settings_for(sshd, tmp_path, connect_timeout_s=2)
        began = time.monotonic()
        with Fleet(hosts, settings, root=str(tmp_path / "root"), agent=FAKE) as fleet:
            found = fleet.run("echo")
    assert time.monotonic() - began < 60
    assert list(found) == ["closed", "web", "silent", "nameless"]
    assert [outcome.ok for outcome in found.values()] == [False, True, False, False]
    assert {found[name].kind for name in ("closed", "silent", "nameless")} == {"unreachable"}
    assert "refuses the connection" in found["closed"].reason
    assert "no-such-host.invalid" in found["nameless"].reason


@needs_sshd
def test_a_connection_killed_in_mid_step_is_lost_and_made_again(sshd: Sshd, tmp_path: Path) -> None:
    """What the step did is unknown, and the outcome says that; the next step connects anew."""
    with ssh_fleet(sshd, tmp_path) as fleet:
        fleet.on_event = events = Events()
        outcomes: list[Outcome] = []
        step = threading.Thread(
            target=lambda: outcomes.append(fleet.run("wait", {"until": str(tmp_path / "go")})["web"])
        )
        step.start()
        events.wait_for("waiting")
        sshd.kill_sessions()
        step.join(15)
        assert not step.is_alive()
        assert outcomes[0].kind == "lost"
        assert "what it did is unknown" in outcomes[0].reason
        (tmp_path / "go").touch()
        assert fleet.run("echo")["web"].ok


@needs_sshd
def test_two_operations_share_a_connection(sshd: Sshd, tmp_path: Path) -> None:
    """A heartbeat goes beside a step."""
    with ssh_fleet(sshd, tmp_path) as fleet:
        fleet.on_event = events = Events()
        outcomes: list[Outcome] = []
        step = threading.Thread(
            target=lambda: outcomes.append(fleet.run("wait", {"until": str(tmp_path / "go")})["web"])
        )
        step.start()
        events.wait_for("waiting")
        assert fleet.run("echo")["web"].ok
        (tmp_path / "go").touch()
        step.join(15)
        assert outcomes[0].ok


@needs_sshd
def test_a_step_that_hangs_on_a_host_is_ended_there_too(sshd: Sshd, tmp_path: Path) -> None:
    """The time limit runs on the host."""
    with ssh_fleet(sshd, tmp_path) as fleet:
        fleet.on_event = events = Events()
        outcome = fleet.run("wait", {"until": str(tmp_path / "never")}, timeout_s=1)["web"]
    assert outcome.kind == "timeout"
    assert not Path(f"/proc/{events.seen[0][1]['pid']}").exists()


@needs_sshd
def test_a_python_that_is_not_there_is_named(sshd: Sshd, tmp_path: Path) -> None:
    """With the key of the inventory that cures it."""
    host = Host(name="web", address="127.0.0.1", port=sshd.port, user="root", python="python9.9")
    with Fleet([host], settings_for(sshd, tmp_path), root=str(tmp_path / "root"), agent=FAKE) as fleet:
        outcome = fleet.run("echo")["web"]
    assert outcome.kind == "protocol"
    assert "python9.9" in outcome.reason
    assert "Python 3.11 or newer" in outcome.reason
