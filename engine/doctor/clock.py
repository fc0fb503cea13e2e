"""The clock: whether something keeps it right, and how far it is from that of Redis."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from engine.doctor.check import Check, Verdict, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME_ERROR: Final = 5  #: what adjtimex(2) returns while nobody keeps the clock right
_TIMEX_BYTES: Final = 512  #: more than struct timex has on any machine; zeros: change nothing, only read
_WARN_S, _FAIL_S = 0.5, 5.0
_REMEDY: Final = "run chrony or systemd-timesyncd (apt install chrony), on this host and on that of Redis"


def kernel_state() -> int:
    """Return the state of the kernel's clock, as adjtimex(2) has it.

    Raises:
        OSError: the kernel does not say.
    """
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, "adjtimex")
    return int(state)


def synchronised(state: int) -> Check:
    """Check whether the kernel has heard of a time server lately."""
    if state != _TIME_ERROR:
        return Check("clock", Verdict.OK, "synchronised", "synchronised")
    reason = (
        "no time server keeps the clock right: times of tasks, scheduled purges and receipts drift "
        "(in a container its host may do it, unseen)"
    )
    return Check("clock", Verdict.WARN, "not synchronised", "synchronised", reason, _REMEDY)


def offsets(ahead_s: Mapping[str, float]) -> Check:
    """Check how far clocks are from that of Redis.

    Args:
        ahead_s: whose clock → seconds that it is ahead.
    """
    limit = f"{_WARN_S:g} s"
    if not ahead_s:
        return unknown("clock_offset", "there is no Redis whose clock would be compared", limit=limit)
    name = max(ahead_s, key=lambda one: abs(ahead_s[one]))
    most = ahead_s[name]
    value = f"{most:+.3f} s, {name}"
    if abs(most) < _WARN_S:
        return Check("clock_offset", Verdict.OK, value, limit)
    verdict = Verdict.FAIL if abs(most) >= _FAIL_S else Verdict.WARN
    reason = (
        f"the clock of {name} is {'ahead of' if most > 0 else 'behind'} that of Redis: times in tasks differ"
    )
    return Check("clock_offset", verdict, value, limit, reason, _REMEDY)
