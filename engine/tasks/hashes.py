"""The four bytes by which a text is looked for in the history.

There are two kinds, and a block may have either of each target: the CRC-32, and a hash that machine code
makes of many lines at once (`engine.tasks.line_hashes`), where the hot modules are compiled. A block says
which it has (those of versions before have the CRC-32), so any form reads what another wrote. Hosts, and the
starts of wide purges, have the CRC-32.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from engine.base.deflate import crc32
from engine.base.form import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

CRCS: Final = 4  #: bit of a block that has some
LINE_HASHES: Final = 8  #: the same
_BITS: Final = 2**64 - 1
_FACTOR: Final = 2685821657736338717  #: odd, and below 2**62: mypyc makes an object of a larger one
_WORD: Final = 8

_hashes_of: Callable[[bytes, list[str], int], bytes] | None = None
if is_compiled():
    try:
        from engine.tasks.line_hashes import hashes_of
    except ImportError:  # librt is not installed
        pass
    else:
        _hashes_of = hashes_of


def crc_of(text: str) -> bytes:
    """Return the CRC-32 of a text, as blocks have it."""
    return array("I", [crc32(text.encode())]).tobytes()


def line_hash_of(text: str) -> bytes:
    """Return the hash of a text that machine code makes, as blocks have it."""
    data = text.encode()
    value, length = 0, len(data)
    places = list(range(0, length - _WORD + 1, _WORD))
    words = [int.from_bytes(data[place : place + _WORD], "little") for place in places]
    if length < _WORD:
        words = list(data)
    elif length % _WORD:
        words.append(int.from_bytes(data[-_WORD:], "little"))
    for word in words:
        value = (value ^ word) * _FACTOR & _BITS
        value ^= value >> 29
    return ((value ^ length) * _FACTOR & _BITS).to_bytes(_WORD, "little")[4:]


def hashes_of_lines(text: str, lines: list[str] | None, start: str = "") -> tuple[bytes, int]:
    """Return four bytes for each line of a text, in their order, and the bit of their kind.

    Args:
        text: lines, with a line end between two; empty: there are none.
        lines: the same, one by one, where the caller has them.
        start: what all of them are known to begin with.
    """
    if not text:
        return b"", 0
    if _hashes_of is None or not text.isascii():
        return array("I", map(crc32, text.encode().split(b"\n"))).tobytes(), CRCS
    hashes = _hashes_of(text.encode(), text.split("\n") if lines is None else lines, len(start))
    return hashes, LINE_HASHES


def sites_of_lines(text: str, lines: list[str] | None) -> list[str]:
    """Return the sites of the URLs of a text, ``http://a.example/``, each once; see `hashes_of_lines`."""
    if not text:
        return []
    first = _site_of(text[: text.find("\n")] if "\n" in text else text)
    sites = {first}
    if text.count(f"\n{first}") < text.count("\n"):  # those of one record are often all of one site
        sites.update([_site_of(line) for line in (text.split("\n") if lines is None else lines)])
    return [*sites]


def _site_of(url: str) -> str:
    return url[: url.find("/", _WORD) + 1]
