"""Fixtures of the states' tests. They make machines out of namespaces, so they need root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release.lab.environment import SALT
from tests.rigs.machine import Machine, make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TIMEOUT_S = 300  #: Salt's programs take seconds each, and all of them wait for each other on busy cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this room time for its fixtures: an environment, a master, minions, a first run."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def salt_programs() -> Path:
    """Folder of Salt's programs, installed when they are missing."""
    return SALT.ensure()


@pytest.fixture(scope="module")
def machine(salt_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine of its own for each file of tests, with the certificate that salt/pillar.example names."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces and accounts")
    with Machine(tmp_path_factory.mktemp("machine")) as made:
        make_certificate(made)
        yield made
