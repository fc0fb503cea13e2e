"""Whose answer it is: that of the cache which was asked, or of a server behind it.

A cache that does not know PURGE may pass it on, and the status of what stands behind it looks like success.
So an answer counts only with evidence that the cache itself gave it. How that is read stands with each driver
(`engine.nodes.drivers.whose`).
"""

from __future__ import annotations

import enum


class Whose(enum.IntEnum):
    """Who gave an answer."""

    OWN = 0  #: the cache that was asked
    UNTOLD = 1  #: its bytes do not tell: another proof is needed
    FORWARDED = 2  #: a server behind the cache; the cache did nothing
