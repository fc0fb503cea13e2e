"""What the flow tests share."""

from collections.abc import Iterator

import pytest

from release.lab.origin import Origin
from tests.flow.site import Site, installation


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin server behind the caches of one test."""
    with Origin() as running:
        yield running


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
