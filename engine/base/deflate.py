"""zlib's compression and CRC-32: Intel's ISA-L where it is installed, else Python's own zlib.

Both write the same format, and each reads what the other wrote. ISA-L, the extra ``purgeline[fast]``, takes a
third of the CPU time for the records of the history; releases that are deployed have it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL_BYTES: Final = 32 * 1024
_LEVEL: Final = 1  #: 6 takes four times the time for an eighth less

try:
    from isal import isal_zlib
except ImportError:
    _crc32 = zlib.crc32
    _compress, _small_level = zlib.compress, _LEVEL
else:
    _crc32 = isal_zlib.crc32
    _compress, _small_level = isal_zlib.compress, 0  # of ISA-L 0 compresses too

crc32: Final[Callable[[bytes], int]] = _crc32


def compress(data: bytes) -> bytes:
    """Return compressed bytes.

    With ISA-L few bytes are written in codes that it has ready, many in codes of their own: to make those
    costs as much as to compress 20 KiB, and without them the result is a third larger.
    """
    return _compress(data, _small_level if len(data) < _SMALL_BYTES else _LEVEL)
