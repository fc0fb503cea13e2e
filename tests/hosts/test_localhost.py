"""release.rollout.localhost: what this machine's own repository has, and how much of it stays."""

import fcntl
import threading
import time
from pathlib import Path

import pytest

from release.repository.repository import Repository, open_repository
from release.rollout.localhost import _alone, is_published
from release.rollout.plan import HostState
from release.settings import Settings
from release.show.screen import Screen
from tests.fakes import small_release
from tests.waiting import wait_until

HERE = HostState(name="local", python=small_release.PYTHON, platform=small_release.PLATFORM)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A repository with one version, whose index expires in an hour."""
    chosen = small_release.signer(tmp_path, index_ttl_s=3600)
    small_release.publish(small_release.make(tmp_path, "1.0"), chosen)
    return chosen


def expired(settings: Settings) -> Repository:
    later = open_repository("", settings)
    later._index._clock = later._clock = lambda: time.time() + 7200
    return later


def test_a_plan_leaves_an_index_that_has_expired_as_it_is(settings: Settings) -> None:
    path = Path(settings.repository) / "index.json"
    before = path.read_bytes()
    assert not is_published(expired(settings), "1.0", HERE, is_dry=True)
    assert path.read_bytes() == before
    assert is_published(expired(settings), "1.0", HERE, is_dry=False)
    assert path.read_bytes() != before


def test_a_version_that_is_built_for_another_python_is_not_there(settings: Settings) -> None:
    other = HostState(name="local", python="cp399", platform=small_release.PLATFORM)
    assert is_published(open_repository("", settings), "1.0", HERE, is_dry=True)
    assert not is_published(open_repository("", settings), "1.0", other, is_dry=True)


def test_only_the_newest_versions_stay(settings: Settings, tmp_path: Path) -> None:
    """Their files go after the index that names them no more."""
    for version in ("2.0", "3.0"):
        small_release.publish(small_release.make(tmp_path, version), settings)
    with open_repository("", settings) as repository:
        repository.keep_newest(2)
        repository.keep_newest(2)
        assert sorted(repository._index.current().versions()) == ["2.0", "3.0"]
    files = sorted(path.name.split("-")[1] for path in Path(settings.repository).glob("*.tar.gz"))
    assert files == ["2.0", "3.0"]


def test_a_deploy_waits_and_says_so_while_another_one_packs_this_tree(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    is_alone = threading.Event()

    def second() -> None:
        with _alone(tmp_path, Screen(), is_dry=False):
            is_alone.set()

    with (tmp_path / ".lock").open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        thread = threading.Thread(target=second)
        thread.start()
        said = ""

        def is_said() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "another deploy packs this tree, that is waited for" in said

        wait_until(is_said, what="the second deploy saying so")
        assert not is_alone.is_set()
    thread.join(10)
    assert is_alone.is_set()
