"""A login that is not root's: what it does by itself, what by sudo, and what it is told without."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.hosts import Hosts, needs_hosts
from tests.rigs.site import LISTEN, Site

SYSTEM_PYTHON = Path("/usr/bin/python3")  #: one that every account may run

pytestmark = [
    needs_hosts,
    pytest.mark.skipif(shutil.which("sudo") is None, reason="needs sudo"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the system's Python"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a host with nothing on it, and an account that may become root."""
    folder = tmp_path_factory.mktemp("login")
    with Hosts(folder / "rig", 1, login="deploy") as rig:
        made = Site(rig, folder / "site", python=SYSTEM_PYTHON)
        made.publish("1.0")
        yield made


@pytest.mark.slow
def test_the_quick_start_works_for_a_login_that_becomes_root_by_sudo(site: Site) -> None:
    """From the plan, which says so and leaves nothing on the host, to the engine that serves."""
    (host,) = site.rig.hosts
    plan = site.run("plan", "--no-salt")
    assert plan.code == 0, plan.err
    assert "h1: by sudo, since deploy may not write /srv" in plan.err
    assert list(host.srv.iterdir()) == []
    done = site.deploy("1.0")
    assert done.code == 0, done.err
    assert site.serving() == {"h1": "1.0"}
    assert [path.name for path in (site.inside(host) / "cache").iterdir()] == []
    looked = site.run("status")
    assert looked.code == 0, looked.err
    for task in ("reload", "rollback"):
        assert "h1: by sudo, since deploy may not write /srv" in site.run(task, "--dry-run").err
    stopped = site.run("stop", "--host", "h1")
    assert stopped.code == 0, stopped.err
    assert "h1: by sudo, since deploy may not write /srv" in stopped.err
    assert site.run("status", "--root", "/srv/typo").code == 1
    assert [path.name for path in host.srv.iterdir()] == ["purgeline"]


@pytest.mark.slow
def test_a_login_whose_folder_it_is_needs_no_sudo(site: Site) -> None:
    (host,) = site.rig.hosts
    own = host.srv / "own"
    own.mkdir()
    shutil.chown(own, 61234, 61234)
    root, listen = ["--root", "/srv/own/engine"], LISTEN.replace("9181", "9191")
    done = site.run("deploy", "--release", "1.0", "--listen", listen, "--no-salt", *root)
    assert done.code == 0, done.err
    assert "sudo" not in done.err
    assert site.run("status", *root).code == 0
    assert (own / "engine/current").lstat().st_uid == 61234
    assert site.run("stop", "--host", "h1", *root).code == 0


def test_a_login_that_may_not_and_cannot_become_root_is_told_both(site: Site) -> None:
    (host,) = site.rig.hosts
    rules = host.inside("sh", "-c", "mv /etc/sudoers.d/login /run/login")
    subprocess.run(rules, check=True)
    try:
        refused = site.run("plan", "--root", "/srv/other")
    finally:
        subprocess.run(host.inside("mv", "/run/login", "/etc/sudoers.d/login"), check=True)
    assert refused.code == 3
    assert (
        "h1: deploy may not write /srv, and cannot become root: sudo: a password is required" in refused.err
    )
