"""W3C Trace Context: which values are a traceparent, and what is kept of them."""

from __future__ import annotations

import pytest

from engine.tasks.traceparent import is_sampled, read_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (VALID, VALID),
        (f" {VALID}\t", VALID),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"00-{TRACE}-{PARENT}-03", f"00-{TRACE}-{PARENT}-03"),
        (f"cc-{TRACE}-{PARENT}-01", VALID),
        (f"cc-{TRACE}-{PARENT}-09-what-comes-next", VALID),
        (f"cc-{TRACE}-{PARENT}-02", f"00-{TRACE}-{PARENT}-00"),
    ],
)
def test_a_traceparent_is_kept(value: str, kept: str) -> None:
    """Of a version to come, what version 00 knows of it."""
    assert read_traceparent(value) == kept


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01.x",
        f"cc-{TRACE}-{PARENT}-01.x",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"{VALID},{VALID}",
        f"{VALID}\n",
    ],
)
def test_what_is_none_is_ignored(value: str) -> None:
    assert read_traceparent(value) == ""


def test_whether_the_sender_records_it() -> None:
    assert is_sampled(VALID)
    assert is_sampled(f"00-{TRACE}-{PARENT}-03")
    assert not is_sampled(f"00-{TRACE}-{PARENT}-02")
    assert not is_sampled("")
