"""zlib's compression and CRC-32: Intel's ISA-L where it is installed, else Python's own zlib.

Both write the same format, and each reads what the other wrote. ISA-L, the extra ``purgeline[fast]``, takes a
third of the CPU time for the records of the history; releases that are deployed have it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from isal import isal_zlib
except ImportError:
    _compress, _crc32 = zlib.compress, zlib.crc32
else:
    _compress, _crc32 = isal_zlib.compress, isal_zlib.crc32

compress: Final[Callable[[bytes, int], bytes]] = _compress
"""Compress bytes at a level; 1 is the fastest of both that finds repetitions."""
crc32: Final[Callable[[bytes], int]] = _crc32
