"""What all tests stand on."""

import signal


def pytest_configure() -> None:
    """Take Ctrl-C, and so have the tests' processes take it, although a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
