"""The hashes of many lines, by machine code: see `engine.tasks.hashes`, which alone calls this.

Lines are read eight bytes at a time where they lie, so none becomes an object of its own: 230 instructions
a URL, where a CRC-32 of each takes a thousand. It counts on 64 bits that overflow: it never runs interpreted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

with contextlib.suppress(ImportError):  # every module of a release is imported before it serves
    from librt.strings import BytesWriter, read_i64_le, write_i32_le

if TYPE_CHECKING:
    # mypyc replaces the calls of these: nothing of them is looked up as it runs.
    from mypy_extensions import i32, i64  # noqa: TC004


def look_at(data: bytes, lines: list[str], start: int) -> tuple[bytes, list[int]]:
    """Return the hash of each line, and the places of lines that do not begin as the first one does.

    Args:
        data: the lines, in ASCII, with a line end between two of them.
        lines: the same, one by one.
        start: so many bytes of the first line, at least eight.

    Raises:
        ValueError: *data* is not these lines.
    """
    hashes = BytesWriter()
    others: list[int] = []
    size: i64 = len(data)
    head: i64 = start
    at: i64 = 0
    number: i64 = 0
    for line in lines:
        length: i64 = len(line)
        if at + length > size:
            raise ValueError("the text ends before its lines do")
        value: i64 = length
        if length >= 8:  # noqa: PLR2004 - bytes of a word
            place: i64 = 0
            while place + 8 <= length:
                value = (value ^ read_i64_le(data, at + place)) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
                place += 8
            if place < length:
                value = (value ^ read_i64_le(data, at + length - 8)) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
        else:
            behind: i64 = at
            while behind < at + length:
                value = (value ^ i64(data[behind])) * 2685821657736338717
                value ^= (value >> 29) & 0x7FFFFFFFF
                behind += 1
        value *= 2685821657736338717
        write_i32_le(hashes, i32(value >> 32))
        if length < head:
            others.append(number)
        else:
            place = head - 8
            while place > 0 and read_i64_le(data, at + place) == read_i64_le(data, place):
                place -= 8
            if place > 0 or read_i64_le(data, at) != read_i64_le(data, 0):
                others.append(number)
        number += 1  # noqa: SIM113 - `enumerate` makes objects of numbers
        at += length + 1
    if at != size + 1:
        raise ValueError("the text goes on behind its lines")
    return hashes.getvalue(), others
