"""release.agent.service: whose engine the unit of systemd runs."""

from pathlib import Path

import pytest

from release.agent import service
from release.agent.answers import Refused
from release.agent.layout import Host

UNIT = """\
# --root /srv/commented
[Unit]
ConditionPathExists=/srv/purgeline/shared/supervisor.py
[Service]
ExecStart=/usr/bin/python3 -I /srv/purgeline/shared/supervisor.py --root /srv/purgeline --workers 2
ExecReload=/usr/bin/python3 -I /srv/other/ask.py --root /srv/other
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the folder of the units, with the one of /srv/purgeline."""
    monkeypatch.setattr(service, "UNITS", tmp_path)
    (tmp_path / service.UNIT).write_text(UNIT)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("ExecStart=python s.py --root /srv/purgeline --workers 1", "/srv/purgeline"),
        ("ExecStart = python s.py --root=/srv/a", "/srv/a"),
        ('ExecStart=python s.py --root "/srv/a b"', "/srv/a b"),
        ("ExecStart=python s.py \\\n  --root /srv/a", "/srv/a"),
        ("ExecStart=\nExecStart=python --root /srv/a", "/srv/a"),
        ('ExecStart=python --root "/srv/a', ""),
        ("ExecStart=python s.py --root", ""),
        ("#ExecStart=python --root /srv/a", ""),
        ("WorkingDirectory=/srv/a", ""),
    ],
)
def test_the_root_of_a_unit_is_the_one_that_its_command_names(line: str, root: str) -> None:
    assert service.root_of(f"[Service]\n{line}\n") == root


def test_the_unit_of_this_installation_says_how_many_workers_it_starts(
    units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)  # systemd is booted
    assert service.unit_workers(Host(Path("/srv/purgeline"))) == 2
    assert service.unit_workers(Host(Path("/srv/other"))) == 0
    (units / service.UNIT).write_text(UNIT.replace(" --workers 2", ""))
    assert service.unit_workers(Host(Path("/srv/purgeline"))) == 0


@pytest.mark.parametrize("root", ["/srv/purge", "/srv/purgeline/x", "/srv", "/srv/other", "/srv/commented"])
def test_a_unit_that_only_contains_the_root_as_text_is_of_another_installation(
    units: Path, root: str
) -> None:
    """Else ``stop`` there would stop the one in /srv/purgeline."""
    assert service.uses_systemd(Host(Path(root)), "auto") is False
    with pytest.raises(Refused, match=f"runs the installation in /srv/purgeline, not {root}"):
        service.uses_systemd(Host(Path(root)), "systemd")


def test_systemd_is_asked_for_by_name_or_by_a_unit_of_this_installation(
    units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)  # systemd is booted
    host = Host(Path("/srv/purgeline/"))
    assert service.uses_systemd(host, None)
    assert service.uses_systemd(host, "systemd")
    assert not service.uses_systemd(host, "direct")
    assert not service.uses_systemd(Host(Path("/srv/purge")), None)
    (units / service.UNIT).unlink()
    assert not service.uses_systemd(host, "auto")
    assert service.uses_systemd(host, "systemd")
