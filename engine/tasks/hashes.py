"""The four bytes by which a text is looked for in the history.

There are two kinds, and a block may have either of each target: the CRC-32, and a hash that machine code
makes of many lines at once (`engine.tasks.line_hashes`), where the hot modules are compiled. So who looks for
a target looks for both, and any form reads what another wrote. Hosts, and the starts of wide purges, have the
CRC-32.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from engine.base.deflate import crc32
from engine.base.form import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

_BITS: Final = 2**64 - 1
_FACTOR: Final = 2685821657736338717  #: odd, and below 2**62: mypyc makes an object of a larger one
_WORD: Final = 8

_look_at: Callable[[bytes, list[str], int], tuple[bytes, list[int]]] | None = None
if is_compiled():
    try:
        from engine.tasks.line_hashes import look_at
    except ImportError:  # librt is not installed
        pass
    else:
        _look_at = look_at


def crc_of(text: str) -> bytes:
    """Return the CRC-32 of a text, as blocks have it."""
    return array("I", [crc32(text.encode())]).tobytes()


def line_hash_of(text: str) -> bytes:
    """Return the hash of a text that machine code makes, as blocks have it."""
    data = text.encode()
    value = length = len(data)
    places = list(range(0, length - _WORD + 1, _WORD))
    words = [int.from_bytes(data[place : place + _WORD], "little") for place in places]
    if length < _WORD:
        words = list(data)
    elif length % _WORD:
        words.append(int.from_bytes(data[-_WORD:], "little"))
    for word in words:
        value = (value ^ word) * _FACTOR & _BITS
        value ^= value >> 29
    return (value * _FACTOR & _BITS).to_bytes(_WORD, "little")[4:]


def hashes_of_name(text: str) -> list[bytes]:
    """Return what a block may have of a target: one of each kind."""
    return [crc_of(text), line_hash_of(text)]


def hashes_of_lines(text: str, lines: list[str] | None) -> tuple[bytes, list[str]]:
    """Return four bytes for each line of a text, in their order, and the sites of its URLs, each once.

    Args:
        text: lines, with a line end between two; empty: there are none.
        lines: the same, one by one, where the caller has them.
    """
    if not text:
        return b"", []
    if _look_at is None or not text.isascii():
        return _crcs_of_lines(text)
    if lines is None:
        lines = text.split("\n")
    site = _site_of(lines[0])
    hashes, others = _look_at(text.encode(), lines, max(len(site), _WORD))
    return hashes, [*{site, *(_site_of(lines[place]) for place in others)}]


def _crcs_of_lines(text: str) -> tuple[bytes, list[str]]:
    lines = text.encode().split(b"\n")
    first = lines[0]
    site = first[: first.find(b"/", _WORD) + 1].decode()
    sites = {site}
    if text.count(f"\n{site}") < len(lines) - 1:  # those of one record are often all of one site
        sites.update([line[: line.find(b"/", _WORD) + 1].decode() for line in lines])
    return array("I", map(crc32, lines)).tobytes(), [*sites]


def _site_of(url: str) -> str:
    return url[: url.find("/", _WORD) + 1]
