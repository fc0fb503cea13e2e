"""HTCP messages: both layouts of the fixed fields, and what is no message."""

import struct

import pytest

from engine.doors.htcp import messages
from engine.doors.htcp.messages import (
    CLR,
    NOP,
    TST,
    MalformedError,
    Overall,
    answer_to,
    finish,
    read_head,
    uri_of,
)
from tests.fakes import htcp_clients as clients

URL = "http://img.example.com/a.jpg"


def test_a_datagram_of_mediawiki_is_a_clr_byte_for_byte() -> None:
    """As its source packs it: 'nxxnCxNxxa*n' around 'na4na*na8n'."""
    specifier = struct.pack("!H4sH28sH8sH", 4, b"HEAD", 28, URL.encode(), 8, b"HTTP/1.0", 0)
    size = 8 + 2 + len(specifier)
    packet = struct.pack(f"!HxxHBxIxx{len(specifier)}sH", 4 + size + 2, size, 4, 77, specifier, 2)
    assert packet == clients.mediawiki(URL, 77)
    head = read_head(packet)
    assert (head.opcode, head.minor, head.trans_id, head.wants_answer) == (CLR, 0, 77, False)
    assert uri_of(packet, head) == URL.encode()


@pytest.mark.parametrize("opcode", [NOP, TST, CLR])
@pytest.mark.parametrize(("minor", "is_old"), [(0, True), (0, False), (1, False)])
def test_both_layouts_are_read_and_answered_in_kind(opcode: int, minor: int, *, is_old: bool) -> None:
    """Minor version 0 is either that of the RFC or that of Squid before 2.7: the set bits tell which."""
    request = clients.datagram(
        clients.data(opcode, wants_answer=True, trans_id=9, is_old=is_old), minor=minor
    )
    head = read_head(request)
    assert (head.opcode, head.wants_answer, head.is_response, head.is_old) == (opcode, True, False, is_old)
    answer = finish(answer_to(head, 2, is_overall=True))
    assert clients.read_answer(answer, is_old=is_old) == (opcode, 2, True, 9, b"", b"", minor)
    assert read_head(answer).is_response


def test_without_an_answer_wanted_the_half_of_the_octet_that_is_set_is_the_opcode() -> None:
    for is_old in (True, False):
        head = read_head(clients.datagram(clients.data(CLR, is_old=is_old), minor=0))
        assert (head.opcode, head.is_old) == (CLR, is_old)


def test_the_answer_to_a_tst_is_read_by_the_rfc_and_by_squid() -> None:
    """By the RFC it is CACHE-HDRS and padding; Squid reads three counted strings."""
    head = read_head(clients.tst(URL))
    answer = clients.read_answer(finish(answer_to(head, messages.TST_ABSENT, op_data=messages.ABSENT)))
    assert (answer.response, answer.is_overall) == (1, False)
    assert answer.op_data == clients.counted(b"") * 3


GOOD = clients.clr(URL)


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b"", "0 octets"),
        (GOOD[:11], "11 octets"),
        (GOOD + b"\0", "LENGTH is"),
        (GOOD[:-1], "LENGTH is"),
        (clients.datagram(clients.data(CLR), major=1), "major version 1"),
        (GOOD[:4] + b"\xff\xff" + GOOD[6:], "LENGTH of DATA"),
        (GOOD[:4] + b"\0\7" + GOOD[6:], "LENGTH of DATA"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(datagram: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        read_head(datagram)


def test_a_counted_string_never_reaches_beyond_data_into_auth() -> None:
    """Wherever DATA is cut, and whichever length is made longer."""
    section = clients.data(CLR, bytes(2) + clients.specifier(URL))
    for size in range(8, len(section)):
        cut = struct.pack("!H", size) + section[2:size]
        datagram = clients.datagram(cut, auth=b"\0\x60" + bytes(0x5E))
        with pytest.raises(MalformedError, match="SPECIFIER"):
            uri_of(datagram, read_head(datagram))
    at = 0
    for text in (b"GET", URL.encode(), b"HTTP/1.1", b""):
        longer = bytearray(clients.datagram(section))
        place = 14 + at
        longer[place : place + 2] = struct.pack("!H", len(text) + 500)
        with pytest.raises(MalformedError, match="SPECIFIER"):
            uri_of(bytes(longer), read_head(bytes(longer)))
        at += 2 + len(text)


def test_padding_behind_the_specifier_is_left_alone() -> None:
    datagram = clients.datagram(clients.data(CLR, bytes(2) + clients.specifier(URL) + b"pad"))
    assert uri_of(datagram, read_head(datagram)) == URL.encode()


def test_a_newer_minor_version_is_read_and_answered_as_the_newest_known_one() -> None:
    head = read_head(clients.datagram(clients.data(CLR, wants_answer=True), minor=9))
    assert (head.minor, head.opcode) == (9, CLR)
    answer = clients.read_answer(finish(answer_to(head, Overall.MINOR_UNSUPPORTED, is_overall=True)))
    assert (answer.response, answer.minor) == (4, 1)
