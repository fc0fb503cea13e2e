"""What the flow tests share."""

from collections.abc import Iterator

import pytest

from release.origin import Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin server behind the caches of one test."""
    with Origin() as running:
        yield running
