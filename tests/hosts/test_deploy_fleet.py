"""Deploys to hosts that differ: in sshd, disk, Python, the way to them, the key that they knew."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from release.repository import signing
from release.repository.repository import open_repository
from tests.fakes import quick_pip
from tests.rigs.hosts import Host, needs_hosts
from tests.rigs.site import Site, each

pytestmark = [needs_hosts, pytest.mark.slow]


@pytest.fixture
def configured(site: Site) -> Iterator[Site]:
    """The installation; its hosts' sshd has its own configuration again afterwards."""
    before = {host.name: (host.folder / "sshd_config").read_text() for host in site.rig.hosts}
    yield site
    for host in site.rig.hosts:
        path = host.folder / "sshd_config"
        if path.read_text() != before[host.name]:
            path.write_text(before[host.name])
            restart(site, host)


def configure(site: Site, host: Host, line: str) -> None:
    """Have the sshd of a host start with a line more, and the engine again."""
    with (host.folder / "sshd_config").open("a") as file:
        file.write(f"{line}\n")
    restart(site, host)


def restart(site: Site, host: Host) -> None:
    host.crash()
    host.start()
    if "AllowUsers" not in (host.folder / "sshd_config").read_text():
        assert site.run("reload", "--host", host.name, "--yes").code == 0


def test_hosts_that_allow_one_session_at_a_time(configured: Site) -> None:
    """Nothing that is done on a host needs a second one beside it."""
    for host in configured.rig.hosts:
        configure(configured, host, "MaxSessions 1")
    done = configured.deploy(configured.new)
    assert done.code == 0, done.err
    assert configured.serving() == each(configured.new)
    assert configured.run("rollback").code == 0


def test_a_host_behind_another(configured: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the SSH configuration says; it lets nobody else in, and the key of either is verified."""
    first, third = configured.rig.hosts[0], configured.rig.hosts[2]
    configure(configured, third, f"AllowUsers root@{first.address}")
    refused = configured.deploy(configured.new)
    assert (refused.code, "h3: " in refused.err) == (3, True)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        f"Host {third.address}\n  ProxyJump root@{first.address}\n"
        f"Host *\n  IdentityFile {configured.rig.key}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    done = configured.deploy(configured.new)
    assert done.code == 0, done.err
    assert configured.serving() == each(configured.new)
    known = configured.rig.known_hosts.read_text().splitlines()
    other = tmp_path / "known_hosts"
    other.write_text("".join(f"{line}\n" for line in known if not line.startswith(first.address)))
    unknown = configured.run("status", "--host", "h3", known_hosts=str(other))
    assert unknown.code == 3
    assert "is not in" in unknown.out + unknown.err


def test_one_host_cut_off_within_the_limit_keeps_nobody_from_the_version(site: Site) -> None:
    """It is told as unknown, and the same command brings it there when it is back."""
    third = site.rig.hosts[2]
    site.behave(third, site.new, ready_delay_s=3)
    args = ("--batches", "1,100%", "--max-failures", "1")
    with site.start("deploy", *site.deploy_args(site.new, *args)) as task:
        task.read_until("h3: reload: spawned")
        third.cut()
        done = task.end()
    try:
        assert (done.code, done.fates) == (1, {"h1": "done", "h2": "done", "h3": "unknown"})
        serving = site.serving()
        assert (serving["h1"], serving["h2"]) == (site.new, site.new)
    finally:
        third.heal()
        site.behave(third, site.new)
    again = site.deploy_when_quiet(site.new)
    assert again.code == 0, again.err
    assert site.serving() == each(site.new)


def test_one_full_disk_stops_it_with_the_canary_taken_back(site: Site) -> None:
    """Full in the middle of a step: what was half made is gone, and room for the next try is there."""
    third = site.inside(site.rig.hosts[2]) / "releases"
    filler = site.rig.hosts[2]
    command = filler.inside("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", "/srv/purgeline/releases")
    assert third.is_dir()
    before = site.serving()
    subprocess.run(command, check=True)
    try:
        bad = site.deploy(site.new)
    finally:
        subprocess.run(filler.inside("umount", "/srv/purgeline/releases"), check=True)
    assert bad.code == 1, bad.err
    assert bad.fates["h1"] == "rolled back"
    assert "the disk is full" in bad.reasons["h3"]
    assert site.serving() == before
    assert site.deploy(site.new).code == 0


def test_a_host_with_another_python_is_named_before_anything_is_changed(site: Site, tmp_path: Path) -> None:
    """A build for it is what is missing."""
    other = quick_pip.make_python(tmp_path / "other")
    library = tmp_path / "other" / quick_pip.LIBRARY
    (library / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 19, 0, 'final', 0)\n")
    text = (site.folder / "hosts.toml").read_text()
    head, mark, last = text.rpartition("[[hosts]]")
    line = next(line for line in last.splitlines() if line.startswith("python"))
    inventory = tmp_path / "hosts.toml"
    inventory.write_text(head + mark + last.replace(line, f'python = "{other}"'))
    before = site.serving()
    refused = site.deploy(site.new, inventory=str(inventory))
    assert refused.code == 3, refused.err
    assert "no build" in refused.err
    assert site.serving() == before


def test_a_key_that_changes_in_the_middle_of_a_fleet(site: Site) -> None:
    """Both are trusted while one host has the version and the others not; then one is."""
    assert site.deploy(site.new, "--host", "h1").code == 0
    key = site.folder / "next.key"
    new = key if key.exists() else None
    public = signing.public_text(signing.load_keys(new)[0]) if new else signing.new_key(key)
    old = site.settings.trusted_keys
    both: dict[str, Any] = {"key_file": str(key), "trusted_keys": [*old, public]}
    before = site.settings
    site.settings = msgspec.structs.replace(site.settings, **both)
    try:
        with open_repository("", site.settings) as repository:
            repository.refresh()
        refused = site.deploy(site.new, trusted_keys=old)
        assert (refused.code, "unknown key" in refused.err) == (3, True)
        done = site.deploy(site.new, trusted_keys=[public])
        assert done.code == 0, done.err
        assert done.fates == {"h1": "already there", "h2": "done", "h3": "done"}
    finally:
        site.settings = before
        with open_repository("", msgspec.structs.replace(before, trusted_keys=[*old, public])) as repository:
            repository.refresh()
