"""What all tests stand on."""

import os
import signal
from collections.abc import Generator

import pytest


def pytest_configure() -> None:
    """Take Ctrl-C, and so have the tests' processes take it, although a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what is skipped as root, who can have every server installed: nothing is left out unnoticed."""
    report = yield
    if report.skipped and os.geteuid() == 0:
        report.outcome = "failed"
        report.longrepr = f"skipped, although root can install what it needs: {report.longrepr}"
    return report


LONG_FILES = ("test_deploy_real", "test_deploy_hosts", "test_deploy_faults", "test_master", "test_masterless")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes: whoever came to one last would keep all others waiting."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
