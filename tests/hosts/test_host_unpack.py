"""release.host: an artefact becomes a release, or is refused whole; killed anywhere, the next one goes on."""

import base64
import gzip
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from release.repository import signing
from tests.fakes import small_release
from tests.fakes.small_release import Small
from tests.rigs.host_calls import AGENT, HostCalls, Refusal
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small_release.small(tmp_path_factory.mktemp("artefacts"), "1.0.0")


@pytest.fixture
def host(tmp_path: Path) -> HostCalls:
    return HostCalls(tmp_path / "root")


def test_an_artefact_becomes_a_release_and_again_is_nothing(host: HostCalls, first: Small) -> None:
    """Installed at its final place, tried, marked; the second time nothing is done, quickly."""
    assert not host.call("unpack", **first.request())["unchanged"]
    release = host.root / "releases/1.0.0"
    assert json.loads((release / ".verified").read_text())["sha256"] == first.sha256
    said = subprocess.run(
        [release / "venv/bin/python", "-I", "-c", "from engine._version import __version__ as v; print(v)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "1.0.0\n"
    assert not (release / "wheels").exists()
    assert host.call("facts")["releases"] == ["1.0.0"]
    assert host.call("verify", version="1.0.0")["files"] > 5
    made = (release / "venv").stat().st_ino
    assert host.call("unpack", **first.request())["unchanged"]
    assert (release / "venv").stat().st_ino == made
    assert [entry["action"] for entry in host.call("history")["entries"]] == ["unpack"]
    assert not (host.root / "current").exists()


@pytest.mark.slow
def test_a_file_that_was_changed_after_unpacking_is_found(host: HostCalls, first: Small) -> None:
    host.call("unpack", **first.request())
    path = host.root / "releases/1.0.0/supervisor.py"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(Refusal, match=r"supervisor\.py was changed"):
        host.call("verify", version="1.0.0")
    path.unlink()
    with pytest.raises(Refusal, match=r"supervisor\.py is missing"):
        host.call("verify", version="1.0.0")


def test_what_a_release_would_run_beside_what_was_unpacked_is_found(host: HostCalls, first: Small) -> None:
    """Each of these ran before: a link, bytecode, another interpreter. A reload refuses the release, too."""
    host.call("unpack", **first.request())
    release = host.root / "releases/1.0.0"
    (packages,) = release.glob("venv/lib/python*/site-packages")
    (bytecode,) = (packages / "engine/__pycache__").glob("_version.*.pyc")
    python = release / "venv/bin/python"
    evil = host.root / "evil.py"
    evil.write_text("print('planted')\n")

    def refused(op: str) -> str:
        with pytest.raises(Refusal) as caught:
            host.call(op, version="1.0.0", listen="127.0.0.1:1")
        assert caught.value.kind == "damaged"
        return caught.value.error

    (packages / "sitecustomize.py").symlink_to(evil)
    assert "site-packages/sitecustomize.py was added" in refused("verify")
    assert "site-packages/sitecustomize.py was added" in refused("reload")
    (packages / "sitecustomize.py").unlink()

    was = bytecode.read_bytes()
    bytecode.write_bytes(was[:16] + was[16:][::-1])
    assert f"{bytecode.name} was changed" in refused("verify")
    assert f"{bytecode.name} was changed" in refused("reload")
    bytecode.write_bytes(was)
    (bytecode.parent / "planted.cpython-311.pyc").write_bytes(was)
    assert "planted.cpython-311.pyc was added" in refused("verify")
    (bytecode.parent / "planted.cpython-311.pyc").unlink()

    target = python.readlink()
    python.unlink()
    python.symlink_to(evil)
    assert f"venv/bin/python points to {evil}, not {target}" in refused("verify")
    assert f"venv/bin/python points to {evil}" in refused("reload")
    python.unlink()
    python.symlink_to(target)
    assert host.call("verify", version="1.0.0")

    (packages / "evil.pth").write_text("import os\n")
    assert not host.call("unpack", **first.request())["unchanged"]  # nothing runs from it: it is made again
    assert "it is damaged" in host.events[0]["message"]
    assert host.call("verify", version="1.0.0")


@pytest.mark.slow
def test_bytecode_of_the_same_source_is_taken_from_the_current_release(
    host: HostCalls, first: Small, tmp_path: Path
) -> None:
    """Not what was changed since; and another artefact under the same version is refused."""
    host.call("unpack", **first.request())
    with pytest.raises(Refusal, match=r"1\.0\.0 is here with other content"):
        host.call("unpack", **first.request(sha256="0" * 64))
    (host.root / "current").symlink_to("releases/1.0.0")
    (old,) = (host.root / "releases/1.0.0").glob("venv/lib/python*/site-packages")
    (changed_one,) = old.glob("engine/__pycache__/__init__.*.pyc")
    changed_one.write_bytes(changed_one.read_bytes() + b"x")

    host.call("unpack", **small_release.small(tmp_path / "next", "1.1.0").request())
    (new,) = (host.root / "releases/1.1.0").glob("venv/lib/python*/site-packages")
    compiled = {
        path.name.partition(".")[0]: path.read_bytes() for path in new.glob("engine/__pycache__/*.pyc")
    }
    assert b"releases/1.0.0/" in compiled["__main__"], "taken from there"
    assert b"releases/1.1.0/" in compiled["_version"], "another source"
    assert b"releases/1.1.0/" in compiled["__init__"], "not what was unpacked"
    assert host.call("verify", version="1.1.0")


def changed(path: Path, to: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    to.write_bytes(content)
    return to


def test_a_tampered_or_truncated_artefact_is_refused_and_nothing_is_left(
    host: HostCalls, first: Small, tmp_path: Path
) -> None:
    def flip(content: bytearray) -> None:
        content[len(content) // 2] ^= 1

    tampered = changed(first.path, tmp_path / "tampered", flip)
    with pytest.raises(Refusal, match=r"has sha256 .*: it was changed"):
        host.call("unpack", **first.request(file=str(tampered)))
    short = changed(first.path, tmp_path / "short", lambda content: content.__delitem__(slice(-100, None)))
    with pytest.raises(Refusal, match="did not arrive whole"):
        host.call("unpack", **first.request(file=str(short)))
    with pytest.raises(Refusal, match="is not on this host"):
        host.call("unpack", **first.request(file=str(tmp_path / "none")))
    assert not (host.root / "releases/1.0.0").exists()
    assert host.call("facts")["releases"] == []


def test_the_index_decides_and_not_the_request(host: HostCalls, first: Small, tmp_path: Path) -> None:
    """Other bytes with their own, right checksum are not what was signed."""
    other = small_release.make(tmp_path, "1.0.0", files={"more": b"x"})
    request = first.request(file=str(other), sha256=small_release._sha256(other.read_bytes()))
    with pytest.raises(Refusal, match="the artefact's sha256 is not the index's"):
        host.call("unpack", **{**request, "size": first.size})
    with pytest.raises(Refusal, match=r"the index has no version 9\.9"):
        host.call("unpack", **first.request(version="9.9"))


def test_an_index_that_cannot_be_trusted_is_refused(host: HostCalls, first: Small, tmp_path: Path) -> None:
    stranger = signing.new_key(tmp_path / "stranger.key")
    with pytest.raises(Refusal, match="signed by an unknown key"):
        host.call("unpack", **first.request(trusted_keys=[stranger]))
    envelope = json.loads(first.envelope)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["serial"] += 1
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    forged = base64.b64encode(json.dumps(envelope).encode()).decode()
    with pytest.raises(Refusal, match="changed after it was signed"):
        host.call("unpack", **first.request(envelope=forged))
    with pytest.raises(Refusal, match="the index is damaged"):
        host.call("unpack", **first.request(envelope=base64.b64encode(b"{}").decode()))
    with pytest.raises(Refusal, match="envelope: takes base64"):
        host.call("unpack", **first.request(envelope="?"))
    with pytest.raises(Refusal, match="trusted_keys"):
        host.call("unpack", **first.request(trusted_keys=[]))


@pytest.mark.slow
def test_a_host_with_an_old_openssl_and_no_library_verifies_signatures(
    host: HostCalls, first: Small, tmp_path: Path
) -> None:
    """A bare interpreter, and an openssl as 1.1.1 is; a wrong signature is refused there too."""
    old = tmp_path / "old/openssl"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pkeyutl: Unrecognized flag rawin' >&2\nexit 1\n")
    old.chmod(0o755)
    bare = tmp_path / "bare"
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(bare)], check=True)
    python = str(bare / "bin/python")
    has = subprocess.run([python, "-I", "-c", "import cryptography"], capture_output=True, check=False)
    assert has.returncode != 0

    def unpack(request: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps({"root": str(host.root), **request})
        done = subprocess.run(
            [python, "-I", str(AGENT), "unpack"],
            env={"PATH": f"{old.parent}:{os.environ['PATH']}"},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))

    stranger = signing.new_key(tmp_path / "stranger.key")
    assert "unknown key" in unpack(first.request(trusted_keys=[stranger]))["error"]
    answer = unpack(first.request())
    assert answer["ok"], answer


def test_an_older_index_and_an_expired_one_are_refused(host: HostCalls, tmp_path: Path) -> None:
    """A host remembers the highest serial it has seen."""
    old = small_release.small(tmp_path / "artefacts", "1.0.0")
    new = small_release.small(tmp_path / "artefacts", "1.1.0")
    host.call("unpack", **new.request())
    with pytest.raises(Refusal, match=r"the index is an old one: its serial is \d+, this host has seen \d+"):
        host.call("unpack", **old.request())
    again = small_release.Small(**{**old.__dict__, "envelope": new.envelope})
    host.call("unpack", **again.request())
    key = signing.load_keys(tmp_path / "artefacts/release.key")
    payload = json.loads(base64.b64decode(json.loads(new.envelope)["payload"]))
    payload |= {"expires_at": int(time.time()) - 5, "serial": payload["serial"] + 10}
    envelope = base64.b64encode(signing.seal(json.dumps(payload).encode(), key)).decode()
    other = small_release.make(tmp_path / "artefacts", "1.2.0")
    with pytest.raises(Refusal, match="the index expired at"):
        host.call("unpack", **new.request(envelope=envelope, version="1.2.0", file=str(other)))


def test_an_artefact_for_another_python_or_machine_is_refused(
    host: HostCalls, first: Small, tmp_path: Path
) -> None:
    payload = json.loads(base64.b64decode(json.loads(first.envelope)["payload"]))
    for entry in payload["artefacts"].values():
        entry["python"] = "cp399"
    public = signing.new_key(tmp_path / "key")
    sealed = signing.seal(json.dumps(payload).encode(), signing.load_keys(tmp_path / "key"))
    request = first.request(envelope=base64.b64encode(sealed).decode(), trusted_keys=[public])
    with pytest.raises(Refusal, match=r"is built for cp399-.*; this host is cp3") as caught:
        host.call("unpack", **request)
    assert caught.value.kind == "python"


def evil(*entries: tarfile.TarInfo, top: str = "purgeline-1.0.0") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size) if entry.isreg() else None)
    return gzip.compress(target.getvalue(), mtime=0)  # the same in every worker of pytest


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.size = 1 if kind == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (evil(entry("purgeline-1.0.0/../../evil")), "not a plain path"),
        (evil(entry("/etc/evil")), "not a plain path"),
        (evil(entry("other/file")), "not a plain path"),
        (evil(entry("purgeline-1.0.0/l", tarfile.SYMTYPE, linkname="/etc/passwd")), "is a link"),
        (evil(entry("purgeline-1.0.0/l", tarfile.LNKTYPE, linkname="purgeline-1.0.0/x")), "is a link"),
        (evil(entry("purgeline-1.0.0/d", tarfile.CHRTYPE)), "is a link, a device"),
        (evil(entry("purgeline-1.0.0/x"), entry("purgeline-1.0.0/x")), "is there twice"),
        (evil(entry("purgeline-1.0.0/x"), entry("purgeline-1.0.0/x/y")), "damaged"),
        (evil(entry("purgeline-1.0.0/x")), "no manifest"),
        (b"not an archive", "damaged"),
        (evil(entry("purgeline-1.0.0/x"))[:-20], "damaged"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(
    host: HostCalls, tmp_path: Path, content: bytes, why: str
) -> None:
    """Even when it is signed."""
    path = tmp_path / "evil.tar.gz"
    path.write_bytes(content)
    digest = small_release._sha256(content)
    payload = {
        "format": 1,
        "serial": 1,
        "expires_at": int(time.time()) + 100,
        "channels": {},
        "artefacts": {
            "x": {
                "version": "1.0.0",
                "sha256": digest,
                "size": len(content),
                "python": small_release.PYTHON,
                "platform": small_release.PLATFORM,
                "yanked": "",
            }
        },
    }
    public = signing.new_key(tmp_path / "key")
    sealed = signing.seal(json.dumps(payload).encode(), signing.load_keys(tmp_path / "key"))
    request = {
        "file": str(path), "sha256": digest, "size": len(content), "version": "1.0.0",
        "envelope": base64.b64encode(sealed).decode(), "trusted_keys": [public],
    }  # fmt: skip
    with pytest.raises(Refusal, match=why):
        host.call("unpack", **request)
    assert not (host.root / "releases/1.0.0").exists()
    assert not (tmp_path / "evil").exists()


def test_an_engine_that_says_another_version_is_no_release(host: HostCalls, tmp_path: Path) -> None:
    lying = small_release.small(tmp_path / "artefacts", "2.0.0", engine_says="1.9.9")
    with pytest.raises(Refusal, match=r"could not install the wheels|says that it is"):
        host.call("unpack", **lying.request())
    assert host.call("facts")["releases"] == []


@pytest.mark.parametrize(
    "stage", ["extract", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("install", "try"))]
)
def test_killed_in_the_middle_the_next_call_makes_it_whole(host: HostCalls, first: Small, stage: str) -> None:
    process = host.start("unpack", **first.request())
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == stage:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert host.call("facts")["releases"] == []
    assert not host.call("unpack", **first.request())["unchanged"]
    assert host.call("facts")["releases"] == ["1.0.0"]
    assert host.call("verify", version="1.0.0")


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB, with room for the check and not for the release."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_made(little_disk: Path, tmp_path: Path) -> None:
    """Refused before the beginning by what is asked for, or in the middle when it fills up then."""
    host = HostCalls(little_disk / "root")
    big = small_release.small(tmp_path / "artefacts", "1.0.0", files={"big": bytes(20 * 2**20)})
    with pytest.raises(Refusal, match="MiB are needed") as caught:
        host.call("unpack", **big.request(min_free_bytes=2**30))
    assert caught.value.kind == "disk"
    with pytest.raises(Refusal, match="disk is full") as caught:
        host.call("unpack", **big.request())
    assert caught.value.kind == "disk"
    assert not (host.root / "releases/1.0.0").exists()
    small = small_release.small(tmp_path / "artefacts", "1.0.1")
    assert not host.call("unpack", **small.request())["unchanged"]


def test_two_at_once_one_after_the_other(host: HostCalls, first: Small) -> None:
    one, other = host.start("unpack", **first.request()), host.start("unpack", **first.request())
    answers = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in (one, other)]
    assert [answer["ok"] for answer in answers] == [True, True]
    assert sorted(answer["unchanged"] for answer in answers) == [False, True]


@pytest.mark.parametrize(
    ("argv", "text", "why"),
    [
        (["nonsense"], "{}", "takes one of facts look unpack"),
        ([], "{}", "takes one of"),
        (["facts"], "[]", "takes a JSON object"),
        (["facts"], "{", "not JSON"),
        (["facts"], "{}", "root is missing"),
        (["facts"], '{"root": "relative"}', "absolute path"),
        (["unpack"], '{"root": "/nowhere-at-all"}', "file is missing"),
    ],
)
def test_input_that_cannot_be_used_is_told(argv: list[str], text: str, why: str) -> None:
    done = subprocess.run(
        ["python3", "-I", str(AGENT), *argv], input=text, capture_output=True, text=True, check=False
    )
    answer = json.loads(done.stdout)
    assert (answer["ok"], done.returncode in {1, 2}, done.stderr) == (False, True, "")
    assert why in answer["error"]


def test_the_deploy_lock_is_one_holders_until_it_is_stale(host: HostCalls) -> None:
    mine = {"token": "a", "who": "ann", "where": "ci-1", "why": "deploy 1.0", "ttl_s": 60, "deploy_id": "d1"}
    host.call("lock", **mine)
    host.call("lock", **mine)
    with pytest.raises(
        Refusal, match=r"locked by bob|locked by ann on ci-1 since .* \(deploy 1\.0\)"
    ) as caught:
        host.call("lock", **{**mine, "token": "b", "who": "bob"})
    assert caught.value.kind == "locked"
    assert host.call("facts")["lock"]["who"] == "ann"
    host.call("heartbeat", token="a")
    with pytest.raises(Refusal):
        host.call("heartbeat", token="b")
    with pytest.raises(Refusal):
        host.call("unlock", token="b")
    host.call("unlock", token="a")
    assert host.call("facts")["lock"] is None
    host.call("lock", **{**mine, "ttl_s": 0.1})
    wait_until(lambda: host.call("facts")["lock"]["stale"], what="the lock being stale")
    host.call("lock", **{**mine, "token": "b"})
    assert host.events[0]["event"] == "stale"
    with pytest.raises(Refusal, match="why is missing"):
        host.call("unlock", force=True, who="carol")
    host.call("unlock", force=True, who="carol", why="b is dead")
    taken_over, unlocked = host.call("history")["entries"][-2:]
    assert taken_over["error"].startswith("a stale lock is taken over: locked by ann on ci-1")
    assert (unlocked["action"], unlocked["who"]) == ("unlock", "carol")
    assert unlocked["error"].startswith("b is dead; was locked by ann on ci-1")


def test_a_torn_last_line_of_the_history_costs_only_itself(host: HostCalls) -> None:
    host.call("append", entry={"action": "reload", "version": "1.0.0", "ok": True})
    path = host.root / "history.jsonl"
    path.write_bytes(path.read_bytes() + b'{"action": "relo')
    host.call("append", entry={"action": "reload", "version": "1.1.0", "ok": True})
    versions = [entry["version"] for entry in host.call("history")["entries"]]
    assert versions == ["1.0.0", "1.1.0"]
