"""What the tests of a real engine share."""

from collections.abc import Iterator

import pytest

from release.lab.origin import Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin server behind the caches of one test."""
    with Origin() as running:
        yield running
