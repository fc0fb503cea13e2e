"""What targets are looked for by: either kind finds them, whichever form wrote the block."""

from __future__ import annotations

from array import array
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.form import is_compiled
from engine.history.covering import Cover
from engine.tasks import hashes
from engine.tasks.blocks import close_block
from engine.tasks.segments import pack, read_record
from tests.fakes.settling import settling

PATH = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=70)
SITE = st.sampled_from(["http://a/", "https://a/", "http://b.example.com:81/", "http://img.example.com/"])
URLS = st.lists(st.builds(str.__add__, SITE, PATH), min_size=1, max_size=90)
NO_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  #: a machine may be busy
HASH_OF_A_JPG = bytes.fromhex("117be0e6")


def look_at(data: bytes, lines: list[str], start: int) -> tuple[bytes, list[int]]:
    """As machine code does it."""
    if data != "\n".join(lines).encode():
        raise ValueError("the text is not these lines")
    others = [place for place, line in enumerate(lines) if line[:start] != lines[0][:start]]
    return b"".join(map(hashes.line_hash_of, lines)), others


LOOK = hashes._look_at or look_at


@pytest.fixture(params=["CRC-32", "line hash"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(hashes, "_look_at", None if request.param == "CRC-32" else look_at)
    return str(request.param)


def test_what_is_on_disk_stays_readable() -> None:
    """Blocks of the versions before have these very bytes."""
    url = "http://img.example.com/a.jpg"
    assert hashes.crc_of(url) == array("I", [crc32(url.encode())]).tobytes()
    assert hashes.line_hash_of(url) == HASH_OF_A_JPG
    assert hashes.hashes_of_name(url) == [hashes.crc_of(url), HASH_OF_A_JPG]


@NO_CLOCK
@given(URLS)
def test_a_block_of_either_kind_has_what_is_looked_for(urls: list[str]) -> None:
    for looks in (None, look_at):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hashes, "_look_at", looks)
            records = [read_record(record) for _, record in pack([settling("t-1", *urls)])]
            block = close_block(records, {})
        assert {block.hosts[at : at + 4] for at in range(0, len(block.hosts), 4)} == {
            hashes.crc_of(url.split("/")[2]) for url in urls
        }
        for place, url in enumerate(urls):
            cover = Cover(url=url, key="", host=url.split("/")[2])
            assert block.hashes[4 * place : 4 * place + 4] in cover.hashes


def test_texts_that_are_not_ascii_have_the_crc(kind: str) -> None:
    found, _ = hashes.hashes_of_lines("http://a/ä\nhttp://a/b", None)
    assert found == hashes.crc_of("http://a/ä") + hashes.crc_of("http://a/b"), kind


def test_the_sites_of_many_lines_are_each_once(kind: str) -> None:
    lines = ["http://a/1", "http://a/2", "https://a/3", "http://a.b/4", "http://a/5", "x", "http://a"]
    _, sites = hashes.hashes_of_lines("\n".join(lines), None)
    assert {"http://a/", "https://a/", "http://a.b/"} <= set(sites), kind
    assert len(sites) == len(set(sites))


@NO_CLOCK
@given(st.lists(PATH, min_size=1, max_size=40), st.integers(8, 40))
def test_many_lines_give_what_each_gives(lines: list[str], start: int) -> None:
    lines = [f"http://a/{lines[0]}", *lines]
    data = "\n".join(lines).encode()
    start = min(start, len(lines[0]))
    assert LOOK(data, lines, start) == look_at(data, lines, start)


@pytest.mark.parametrize("data", [b"http://a/1", b"http://a/1\nhttp://a/2\n", b"http://a/1\nhttp://a/", b""])
def test_a_text_of_other_lines_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="lines"):
        LOOK(data, ["http://a/1", "http://a/2"], 9)


def test_machine_code_makes_hashes_where_it_can() -> None:
    assert (hashes._look_at is not None) == is_compiled()
