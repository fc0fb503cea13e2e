"""The host ``local``: this machine, by the project's own tasks, without SSH or root."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from release.repository.repository import open_repository
from release.rollout.localhost import write_config
from tests.fakes import artefacts, small_release
from tests.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 100.0


class Here:
    """An installation in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.settings = artefacts.signer(
            folder, repository=str(folder / "repository"), bake_s=0.2, min_free_bytes=1, service="direct"
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def publish(self, version: str, **behaviour: Any) -> None:
        artefact = small_release.make(self.folder / "packed", version, **behaviour)
        with open_repository("", self.settings) as repository:
            repository.publish(artefact, channel="stable")

    def _command(self, name: str, *args: str) -> tuple[list[str], dict[str, str]]:
        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in msgspec.structs.asdict(self.settings).items()
            if key != "hooks"
        }
        program = str(Path(sys.executable).with_name("inv"))
        command = [program, "--search-root", str(PROJECT), name, "--host", "local", "--root", str(self.root)]
        environ = os.environ | {f"PURGELINE_RELEASE__{key.upper()}": text for key, text in texts.items()}
        return [*command, *args], environ

    def inv(self, name: str, *args: str) -> tuple[int, str, str]:
        """Run a task; return exit code, standard output and standard error."""
        command, environ = self._command(name, *args)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def started(self, name: str, *args: str, **settings: str) -> "subprocess.Popen[str]":
        """Start a task; its standard output has its standard error, too."""
        command, environ = self._command(name, *args)
        environ |= {f"PURGELINE_RELEASE__{key.upper()}": text for key, text in settings.items()}
        out, err = subprocess.PIPE, subprocess.STDOUT
        return subprocess.Popen(command, cwd=self.folder, env=environ, stdout=out, stderr=err, text=True)

    def inv_unread(self, name: str, *args: str, **settings: str) -> int:
        """Run a task whose output nobody reads beyond the first line; return its exit code."""
        process = self.started(name, *args, **settings)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        return process.wait(TIMEOUT_S)

    def deploy(self, version: str, *args: str) -> tuple[int, str, str]:
        return self.inv("deploy", "--release", version, "--listen", f"127.0.0.1:{self.port}", *args)

    def served(self) -> str:
        """Ask the engine its version, as anybody would."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            client.request("GET", "/version")
            return str(json.loads(client.getresponse().read())["version"])
        finally:
            client.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    place = Here(tmp_path)
    yield place
    if (place.root / "shared").exists():
        place.inv("stop")


@pytest.mark.slow
def test_output_that_nobody_reads_does_not_stop_a_deploy(here: Here) -> None:
    """``./inv deploy 2>&1 | head -1``; its hooks write there, too."""
    here.publish("1.0")
    args = ("--release", "1.0", "--listen", f"127.0.0.1:{here.port}")
    assert here.inv_unread("deploy", *args, hooks='{ post-reload = "seq 99999" }') == 0
    assert here.served() == "1.0"
    last = (here.folder / "state/history.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["verdict"] == "done"


def test_the_life_of_an_installation_on_this_machine(here: Here) -> None:
    """First deploy, second one, a bad one, back, and the end."""
    here.publish("1.0")
    code, out, err = here.deploy("1.0")
    assert code == 0, err
    assert "1.0" in out
    config = here.root / "shared" / "engine.toml"
    assert f"the engine's configuration is {config}; it has no nodes yet. Next:\nadd nodes: " in err
    assert f"reload --host local --root {here.root}\n" in err
    assert here.served() == "1.0"
    assert (here.root / "shared" / "engine.toml").read_text().count(f"127.0.0.1:{here.port}") == 1

    other = small_release.make(here.folder / "other", "1.0", more=1)  # same version, other bytes
    with open_repository(str(here.folder / "second"), here.settings) as repository:
        repository.publish(other, channel="stable")
    code, _, err = here.inv("deploy", "--release", "1.0", "--repository", str(here.folder / "second"))
    assert code == 3
    assert "local: 1.0 is unpacked there with other bytes" in err

    here.publish("2.0")
    for option, why in (
        ("--listen=127.0.0.1:1", "its engine.toml has listen ="),
        ("--workers=3", "has 1 worker"),
    ):
        for task in ("deploy", "reload"):
            code, _, err = here.inv(task, "--release", "1.0", option)
            assert (code, why in err) == (3, True), err
    began, go_on = here.folder / "began", here.folder / "go-on"
    hook = f"touch {began}; until [ -e {go_on} ]; do sleep 0.05; done"
    settings = {"hooks": f'{{ pre-reload = "{hook}" }}', "workers": "3"}
    with here.started("deploy", "--release", "2.0", **settings) as first:
        wait_until(began.exists, what="the deploy being at its hook")
        code, _, err = here.inv("deploy", "--release", "2.0")  # of two at once the second is told whose it is
        assert (code, "locked by " in err, "Traceback" in err) == (4, True, False), err
        go_on.touch()
        said = first.communicate(timeout=TIMEOUT_S)[0]
        assert first.returncode == 0, said
    assert "local: its engine goes on with 1 worker; workers = 3 of the settings is for its next" in said
    assert here.served() == "2.0"
    code, out, _ = here.inv("status", "--json")
    (host,) = json.loads(out)["hosts"]
    assert (code, host["status"]["served_version"], host["wrong"]) == (0, "2.0", [])

    here.publish("2.1", import_error="SyntaxError: oh no")
    code, out, _ = here.inv("deploy", "--release", "2.1")
    assert code == 1
    assert "SyntaxError: oh no" in out
    assert here.served() == "2.0"

    assert here.inv("verify")[0] == 0
    assert here.inv("rollback")[0] == 0
    assert here.served() == "1.0"
    code, out, _ = here.inv("history", "--json")
    actions = [(entry["action"], entry["version"], entry["ok"]) for entry in json.loads(out)["entries"]]
    assert actions[-2:] == [("reload", "2.1", False), ("rollback", "1.0", True)]

    assert here.inv("stop")[0] == 0
    with pytest.raises(ConnectionRefusedError):
        here.served()
    assert here.inv("status")[0] == 1
    assert here.inv("reload")[0] == 0  # it starts again where it was
    assert here.served() == "1.0"


@pytest.mark.slow
def test_a_version_is_packed_from_this_tree_when_nobody_has_it(here: Here, fetched_wheels: Path) -> None:
    """What a newcomer does; the plan says it first."""
    artefacts.share_wheels(Path(here.settings.cache_dir), fetched_wheels)
    code, out, err = here.inv("plan")
    assert code == 0, err
    assert "deploy 0" in out
    code, out, err = here.inv("deploy", "--listen", f"127.0.0.1:{here.port}")
    assert code == 0, err
    version = here.served()
    assert version.startswith("0")
    assert version in out
    assert (here.root / "releases" / version / "supervisor.py").exists()
    assert not (here.folder / "repository").exists()  # nothing else was written to


def test_this_machine_needs_a_folder(here: Here) -> None:
    """It must not write to /srv by itself."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("inv")),
            "--search-root",
            str(PROJECT),
            "deploy",
            "--host",
            "local",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert "--host local needs --root DIR" in done.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["deploy", "--max-failures=x"], "--max-failures takes a number from 0 on, not 'x'"),
        (["deploy", "--workers=0"], "--workers takes a number from 1 on, not '0'"),
        (["prune", "--keep=-1"], "--keep takes a number from 1 on, not '-1'"),
        (["deploy", "--batches=5x"], "batches: '5x' in '5x' is no size"),
        (["deploy", "--listen=here"], "--listen 'here' is not HOST:PORT"),
        (["deploy", "--listen=127.0.0.1:99999"], "--listen '127.0.0.1:99999' is not HOST:PORT"),
        (["deploy", "--shadow=/dev/null"], "--shadow: /dev/null: no such file"),
        (["deploy", "--release=new"], "--release 'new' is no PEP 440 version"),
        (["rollback", "--to=../x"], "--to '../x' is no PEP 440 version"),
        (["deploy", "--channel=beta", "--repository=."], "channel 'beta': take canary or stable"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(here: Here, args: list[str], sentence: str) -> None:
    """With exit code 2 or 3, nothing changed, and never a traceback."""
    here.publish("1.0")
    here.settings = msgspec.structs.replace(here.settings)
    name, *rest = args
    if "--repository=." in rest:
        rest = [*rest[:-1], f"--repository={here.folder / 'repository'}"]
    code, _, err = here.inv(name, *rest)
    assert sentence in err
    assert "Traceback" not in err
    assert code == 2
    assert not here.root.exists()


def test_a_configuration_is_written_once(tmp_path: Path) -> None:
    """After that it is the operator's."""
    path = tmp_path / "shared" / "engine.toml"
    write_config(path, "127.0.0.1:9191")
    assert 'listen = "127.0.0.1:9191"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    write_config(path, "127.0.0.1:9292", is_running=True)
    write_config(path, "")
    assert 'listen = "127.0.0.1:9191"' in path.read_text()
    write_config(path, "127.0.0.1:9393")  # the first one was a mistake, and nothing runs with it
    assert 'listen = "127.0.0.1:9393"' in path.read_text()
    path.write_text("mine")
    write_config(path, "127.0.0.1:9292")
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(here: Here) -> None:
    """Nothing is looked at that would need it, and a look leaves nothing there."""
    here.publish("1.0")
    assert here.inv("status")[0] == 1
    assert not here.root.exists()
    here.root.write_text("a file")
    code, _, err = here.deploy("1.0")
    assert code == 3
    assert "Traceback" not in err
    assert "Not a directory" in err or "cannot be written" in err
    here.root.unlink()
