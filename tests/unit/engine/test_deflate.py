"""Compression: whatever is installed, each engine reads what another wrote."""

from __future__ import annotations

import zlib

import pytest
from isal import isal_zlib

from engine.base import deflate

LINE = b"http://img.example.com/a/1.jpg\n"
TEXTS = [b"", b"a", LINE * 50, LINE * 5000, bytes(range(256)) * 40]


@pytest.mark.parametrize("text", TEXTS, ids=["nothing", "a letter", "some lines", "many lines", "bytes"])
def test_either_library_reads_what_the_other_wrote(text: bytes) -> None:
    assert zlib.decompress(deflate.compress(text)) == text
    assert isal_zlib.decompress(zlib.compress(text, 1)) == text
    assert deflate.crc32(text) == zlib.crc32(text)


def test_few_bytes_are_compressed_too() -> None:
    """Level 0 means "not at all" to zlib, and "with codes that are ready" to ISA-L."""
    assert len(deflate.compress(LINE * 50)) < len(LINE) * 25
