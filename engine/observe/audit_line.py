"""A line of the audit.

It stands apart from `audit`, which is compiled: mypyc drops what stands in the brackets of a class.
"""

from __future__ import annotations

import msgspec


class AuditLine(msgspec.Struct, omit_defaults=True, gc=False):
    """One line; what is not known, or is nothing, is left out. It holds nothing that could refer to it."""

    time: float  #: UNIX time, seconds
    level: str
    message: str
    service: str
    audit: str  #: what it is about, see `audit`
    by: str = ""  #: name of the token
    address: str = ""
    door: str = ""
    task_id: str = ""
    action: str = ""
    kind: str = ""
    count: int = 0  #: targets
    target: str = ""  #: the first
    status: int = 0  #: of the answer
    outcome: str = ""
    reason: str = ""
    request: str = ""  #: method and path, of an admin action and of what was refused before its task was read
    left_out: int = 0  #: refusals of this status that have no line
