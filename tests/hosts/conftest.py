"""What the tests of hosts share."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.build import wheels
from release.lab.caches import free_port
from release.settings import ROOT
from tests.fakes import quick_pip
from tests.rigs.host_calls import HostCalls
from tests.rigs.site import Site, installation


@pytest.fixture
def port() -> int:
    """A free port for the engine of one test."""
    return free_port()


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter for hosts whose pip is quick."""
    return quick_pip.make_python(tmp_path_factory.mktemp("python") / "quick")


@pytest.fixture(scope="session")
def fetched_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``wheels`` of the caches of all who pack this tree, in all processes of a run: fetched once."""
    base = tmp_path_factory.getbasetemp()
    cache = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    with (cache / "fetched-wheels.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        (cache / "fetched").mkdir(exist_ok=True)
        wheels.house(lock, wheels.target("", f"linux_{os.uname().machine}"), cache / "fetched")
    return cache / "fetched/wheels"


@pytest.fixture
def host(tmp_path: Path, quick_python: Path) -> Iterator[HostCalls]:
    """An installation, stopped at the end; files that start no engine have a plain one of their own."""
    calls = HostCalls(tmp_path / "root", python=quick_python)
    yield calls
    calls.close()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, quick_python: Path) -> Iterator[Site]:
    """Give an installation that serves on three hosts."""
    with installation(tmp_path_factory.mktemp("site"), quick_python) as site:
        yield site


@pytest.fixture
def site(installed: Site) -> Site:
    """Return the installation: all hosts serve `Site.base`, and `Site.new` is published."""
    installed.settle()
    installed.publish_next()
    return installed
