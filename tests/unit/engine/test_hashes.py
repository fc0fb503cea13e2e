"""What targets are looked for by, in blocks that either form wrote."""

from __future__ import annotations

import itertools
from array import array
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.form import is_compiled
from engine.tasks import hashes
from engine.tasks.blocks import close_block
from engine.tasks.hashes import CRCS, LINE_HASHES
from engine.tasks.packing import pack
from engine.tasks.segments import read_record
from tests.fakes.settling import settling

PATH = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=70)
SITE = st.sampled_from(["http://a/", "https://a/", "http://b.example.com:81/", "http://img.example.com/"])
URLS = st.lists(st.builds(str.__add__, SITE, PATH), min_size=1, max_size=90)
NO_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  #: a machine may be busy
HASH_OF_A_JPG = bytes.fromhex("4b789fbb")


def hashes_of(data: bytes, lines: list[str], start: int) -> bytes:
    """As machine code does it."""
    if data != "\n".join(lines).encode() or any(line[:start] != lines[0][:start] for line in lines):
        raise ValueError("the text is not these lines")
    return b"".join(map(hashes.line_hash_of, lines))


HASHES_OF = hashes._hashes_of or hashes_of


@pytest.fixture(params=["CRC-32", "line hash"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(hashes, "_hashes_of", None if request.param == "CRC-32" else hashes_of)
    return str(request.param)


def test_what_is_on_disk_stays_readable() -> None:
    """Blocks of the versions before have these very bytes."""
    url = "http://img.example.com/a.jpg"
    assert hashes.crc_of(url) == array("I", [crc32(url.encode())]).tobytes()
    assert hashes.line_hash_of(url) == HASH_OF_A_JPG


@NO_CLOCK
@given(URLS)
def test_a_block_of_either_kind_has_what_is_looked_for(urls: list[str]) -> None:
    sites = {urls[0][: urls[0].index("/", 8) + 1]}
    known = next(iter(sites)) if all(url.startswith(tuple(sites)) for url in urls) else ""
    for makes, site in itertools.product((None, hashes_of, HASHES_OF), ("", known)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hashes, "_hashes_of", makes)
            records = [read_record(record) for _, record in pack([settling("t-1", *urls, site=site)])]
            block = close_block(records, {})
        assert {block.hosts[at : at + 4] for at in range(0, len(block.hosts), 4)} == {
            hashes.crc_of(url.split("/")[2]) for url in urls
        }
        hash_of, bit = (hashes.crc_of, CRCS) if makes is None else (hashes.line_hash_of, LINE_HASHES)
        assert block.hashes == b"".join(map(hash_of, urls))
        assert block.actions & ~1 == bit


def test_texts_that_are_not_ascii_have_the_crc(kind: str) -> None:
    found = hashes.hashes_of_lines("http://a/ä\nhttp://a/b", None)
    assert found == (hashes.crc_of("http://a/ä") + hashes.crc_of("http://a/b"), CRCS), kind


def test_the_sites_of_many_lines_are_each_once() -> None:
    lines = ["http://a/1", "http://a/2", "https://a/3", "http://a.b/4", "http://a/5", "x", "http://a"]
    sites = hashes.sites_of_lines("\n".join(lines), None)
    assert {"http://a/", "https://a/", "http://a.b/"} <= set(sites)
    assert len(sites) == len(set(sites))
    assert hashes.sites_of_lines("http://a/1\nhttp://a/2", None) == ["http://a/"]


@NO_CLOCK
@given(st.lists(PATH, min_size=1, max_size=40), SITE, st.integers(0, 40))
def test_many_lines_give_what_each_gives(paths: list[str], site: str, start: int) -> None:
    lines = [site + path for path in paths]
    data = "\n".join(lines).encode()
    assert HASHES_OF(data, lines, min(start, len(site))) == hashes_of(data, lines, 0)


@NO_CLOCK
@given(st.lists(PATH, min_size=1, max_size=40))
def test_lines_of_any_length_have_hashes(lines: list[str]) -> None:
    assert HASHES_OF("\n".join(lines).encode(), lines, 0) == hashes_of("\n".join(lines).encode(), lines, 0)


@pytest.mark.parametrize("data", [b"http://a/1", b"http://a/1\nhttp://a/2\n", b"http://a/1\nhttp://a/", b""])
def test_a_text_of_other_lines_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="lines"):
        HASHES_OF(data, ["http://a/1", "http://a/2"], 9)


def test_machine_code_makes_hashes_where_it_can() -> None:
    assert (hashes._hashes_of is not None) == is_compiled()
