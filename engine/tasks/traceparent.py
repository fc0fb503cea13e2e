"""``traceparent`` of W3C's Trace Context: which values are ones, and what is kept of them. Pure."""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_INVALID: Final = "ff"  #: a version that there never will be
_KNOWN: Final = "00"
_SAMPLED: Final = 1


def read_traceparent(value: str) -> str:
    """Return the traceparent to keep; empty: the value is none, and is ignored.

    Of a version to come its first four parts are kept, as version 00 with the flag that version knows.

    Args:
        value: of the header.
    """
    found = _FORM.fullmatch(value.strip(" \t"))
    if found is None:
        return ""
    version, trace, parent, flags, more = found.groups()
    if version == _INVALID or not trace.strip("0") or not parent.strip("0"):
        return ""
    if version == _KNOWN:
        return "" if more else found[0]
    return f"{_KNOWN}-{trace}-{parent}-{int(flags, 16) & _SAMPLED:02x}"


def is_sampled(traceparent: str) -> bool:
    """Tell whether whoever sent it records the trace."""
    return bool(traceparent) and bool(int(traceparent[-2:], 16) & _SAMPLED)
