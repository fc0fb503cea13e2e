"""The container image and the compose file, built and run by podman.

No registry of images is asked: what the files take from one is made of Debian's packages here, under the same
names.
"""

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.build import packing
from release.lab.caches import free_port
from release.settings import parse_settings
from tests.fakes import artefacts
from tests.rigs.real_site import clone
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates/container"
PACKAGES = "python3,python3-venv,python3-pip,varnish,nginx,libnginx-mod-http-cache-purge,redis-server"
STAND_INS = ("python:3.11-slim", "debian:bookworm-slim", "varnish:7", "redis:7")
#: crun takes no mixed cgroups, and a container may not have more open files than this process may give it.
CONTAINERS_CONF = """
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[network]
network_backend = "netavark"
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Podman:
    """podman with a store of its own.

    Args:
        folder: for all that it keeps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        (folder / "storage.conf").write_text(storage)
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        self.env = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "PAGES_PORT": str(free_port()),
            "ENGINE_PORT": str(free_port()),
        }

    def __call__(self, *args: str, cwd: Path = ROOT) -> str:
        return self.run("podman", *args, cwd=cwd)

    def run(self, *command: str, cwd: Path = ROOT) -> str:
        """Run a command and return what it printed; fails with all that it said."""
        done = subprocess.run(command, env=self.env, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, fetched_wheels: Path) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("containers")
    podman = Podman(folder)
    try:
        podman.run(*_debian(folder / "debian.tar"))
        podman("import", str(folder / "debian.tar"), f"localhost/{STAND_INS[0]}")
        for name in STAND_INS[1:]:
            podman("tag", f"localhost/{STAND_INS[0]}", f"localhost/{name}")
        _build(podman, folder, fetched_wheels)
        yield podman
    finally:
        with contextlib.suppress(AssertionError):
            podman("rm", "--all", "--force", "--time", "0")
            podman("network", "prune", "--force")
            podman("volume", "prune", "--force")
            podman("rmi", "--all", "--force")


def _debian(image: Path) -> list[str]:
    """Return the command that makes a Debian of the sources and options that this machine's apt has."""
    sources = (*Path("/etc/apt/sources.list.d").glob("debian*"), Path("/etc/apt/sources.list"))
    options = [f"--aptopt={path}" for path in sorted(Path("/etc/apt/apt.conf.d").glob("99*"))]
    found = [str(path) for path in sources if path.is_file()]
    return ["mmdebstrap", "--variant=apt", f"--include={PACKAGES}", *options, "bookworm", str(image), *found]


def _build(podman: Podman, folder: Path, wheels: Path) -> None:
    settings = parse_settings({"cache_dir": str(artefacts.share_wheels(folder / "cache", wheels))})
    tree = clone(folder / "tree")
    built = packing.build(
        release="1.2.3", out=folder / "dist", root=tree, settings=settings, self_test=False, pure=True
    )
    podman(
        *("build", "-q", "-t", "purgeline", "-f", str(TEMPLATES / "Containerfile")),
        *("--build-arg", f"ARTEFACT={built.path.name}", str(built.path.parent)),
    )


def test_the_image_runs_as_nobody_and_says_its_version_and_what_it_lacks(podman: Podman) -> None:
    assert podman("run", "--rm", "purgeline", "--version").strip() == "purgeline 1.2.3"
    assert podman("run", "--rm", "--entrypoint", "id", "purgeline", "-u").strip() == "10001"
    lacking = subprocess.run(
        ["podman", "run", "--rm", "purgeline"], env=podman.env, capture_output=True, text=True, check=False
    )
    assert lacking.returncode == 2
    assert lacking.stderr.startswith("purgeline: /etc/purgeline/engine.toml: no such file")


def test_the_compose_file_purges_through_both_caches_and_keeps_its_tasks(podman: Podman) -> None:
    folder = podman.folder / "try"
    shutil.copytree(TEMPLATES, folder)
    page = f"http://127.0.0.1:{podman.env['PAGES_PORT']}/"
    podman.run("podman-compose", "up", "-d", cwd=folder)
    wait_until(lambda: _read(page) == "one\n", what="the page through both caches", timeout_s=60)
    (folder / "site/index.html").write_text("two\n")
    assert _read(page) == "one\n", "nothing is cached"
    engine = "try_engine_1"
    said = podman("exec", engine, "purgeline", "purge", page, "--wait", "--json")
    task = json.loads(said.splitlines()[-1])
    assert (task["state"], task["total"]) == ("done", 2)
    assert _read(page) == "two\n"
    podman("stop", "--time", "40", engine)
    assert podman("inspect", engine, "--format", "{{.State.ExitCode}}").strip() == "0"
    podman("start", engine)
    status = f"http://127.0.0.1:{podman.env['ENGINE_PORT']}/readyz"
    wait_until(lambda: _read(status) is not None, what="the engine being ready again", timeout_s=60)
    again = json.loads(podman("exec", engine, "purgeline", "status", task["task_id"], "--json"))
    assert again["state"] == "done"


def _read(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None
