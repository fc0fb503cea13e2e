"""What the tests of `release.host` share that start engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from release.lab.caches import free_port
from tests.release.host_calls import HostCalls


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
