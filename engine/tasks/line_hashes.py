"""The hashes of many lines, by machine code: see `engine.tasks.hashes`, which alone calls this.

Lines are read eight bytes at a time where they lie, so none becomes an object of its own, and what all begin
with is read once. It counts on 64 bits that overflow: it never runs interpreted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

with contextlib.suppress(ImportError):  # every module of a release is imported before it serves
    from librt.strings import BytesWriter, read_i64_le, write_i32_le

if TYPE_CHECKING:
    # mypyc replaces the calls of these: nothing of them is looked up as it runs.
    from mypy_extensions import i32, i64  # noqa: TC004


def hashes_of(data: bytes, lines: list[str], start: int) -> bytes:
    """Return the hash of each line.

    Args:
        data: the lines, in ASCII, with a line end between two of them.
        lines: the same, one by one.
        start: so many bytes are the same in all of them.

    Raises:
        ValueError: *data* is not these lines.
    """
    hashes = BytesWriter()
    size: i64 = len(data)
    shared: i64 = start
    shared -= shared & 7
    begun: i64 = 0  # the value behind what all lines begin with
    at: i64 = 0
    if size < shared:
        raise ValueError("the text ends before its lines do")
    while at < shared:
        begun = (begun ^ read_i64_le(data, at)) * 2685821657736338717
        begun ^= (begun >> 29) & 0x7FFFFFFFF
        at += 8
    at = 0
    for line in lines:
        length: i64 = len(line)
        end: i64 = at + length
        if end > size or length < shared:
            raise ValueError("the text ends before its lines do")
        value: i64 = begun
        place: i64 = at + shared
        if length >= 8:  # noqa: PLR2004 - bytes of a word
            last: i64 = end - 8
            while place <= last:
                value = (value ^ read_i64_le(data, place)) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
                place += 8
            if place < end:
                value = (value ^ read_i64_le(data, last)) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
        else:
            while place < end:
                value = (value ^ i64(data[place])) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
                place += 1
        write_i32_le(hashes, i32(((value ^ length) * 2685821657736338717) >> 32))
        at = end + 1
    if at != size + 1:
        raise ValueError("the text goes on behind its lines")
    return hashes.getvalue()
