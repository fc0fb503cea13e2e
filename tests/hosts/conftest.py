"""What the tests of hosts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from release.lab.caches import free_port
from tests.rigs.host_calls import HostCalls
from tests.rigs.site import Site, installation


@pytest.fixture
def port() -> int:
    """A free port for the engine of one test."""
    return free_port()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostCalls]:
    """An installation, stopped at the end; files that start no engine have a plain one of their own."""
    calls = HostCalls(tmp_path / "root")
    yield calls
    calls.close()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give an installation that serves on three hosts."""
    with installation(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(installed: Site) -> Site:
    """Return the installation: all hosts serve `Site.base`, and `Site.new` is published."""
    installed.settle()
    installed.publish_next()
    return installed
