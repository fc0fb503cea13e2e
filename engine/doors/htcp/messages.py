"""HTCP messages (RFC 2756) as they stand in datagrams. Pure.

The first octets of DATA are laid out in two ways. The RFC has OPCODE in the upper half of its octet, and
the flags F1 and RR in the two lowest bits; Squid sends that as minor version 1. Squid before 2.7, and
MediaWiki to this day, have OPCODE in the lower half and the flags in the two highest bits, as minor
version 0. A message of minor version 0 is therefore read by which of the bits are set: each of the two
layouts leaves those of the other one zero in a request. It is answered in the layout and version that it
came in.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

import msgspec

NOP: Final = 0
TST: Final = 1
CLR: Final = 4
NAMES: Final = {NOP: "NOP", TST: "TST", 2: "MON", 3: "SET", CLR: "CLR"}  #: opcodes

MINOR_MAX: Final = 1
HEADER_BYTES: Final = 4  #: LENGTH, MAJOR, MINOR
ABSENT: Final = bytes(6)
"""OP-DATA of a TST for what is not there: an empty CACHE-HDRS (RFC 2756), and padding.

Squid (5.7) reads three counted strings in every answer to a TST: of two octets it reads on into AUTH, and
drops the answer.
"""

_DATA_BYTES: Final = 8  #: LENGTH, OPCODE and RESPONSE, flags, TRANS-ID
_START: Final = struct.Struct("!HBBHBBI")  #: of a message: HEADER, and DATA up to OP-DATA
_SHORT: Final = struct.Struct("!H")
_OLD_RR: Final = 0x80
_OLD_F1: Final = 0x40
_RR: Final = 0x01
_F1: Final = 0x02
_NO_AUTH: Final = _SHORT.pack(2)
_SPECIFIER_TEXTS: Final = 4  #: METHOD, URI, VERSION, REQ-HDRS


class MalformedError(Exception):
    """A datagram that is no HTCP message; the text says why."""


class Overall(enum.IntEnum):
    """RESPONSE codes about a message as a whole (MO)."""

    UNSIGNED = 0  #: authentication was not used, and is required
    BADLY_SIGNED = 1
    OPCODE_UNKNOWN = 2
    MINOR_UNSUPPORTED = 4
    UNDESIRED = 5  #: inappropriate, disallowed, or undesirable


class Cleared(enum.IntEnum):
    """RESPONSE codes of CLR."""

    GONE = 0
    KEPT = 1
    ABSENT = 2


TST_ABSENT: Final = 1  #: RESPONSE of a TST


class Head(msgspec.Struct, frozen=True, gc=False):
    """A message up to its OP-DATA."""

    minor: int
    opcode: int
    is_response: bool  #: RR
    wants_answer: bool  #: RD, of a request
    trans_id: int
    end: int  #: of DATA, in the datagram
    is_old: bool  #: laid out as Squid before 2.7 has it


def read_head(datagram: bytes) -> Head:
    """Return what the fixed fields of a datagram say; its minor version may be too new.

    Raises:
        MalformedError: it is shorter or longer than it says, or of another major version.
    """
    size = len(datagram)
    if size < _START.size:
        raise MalformedError(f"{size} octets; a message has at least {_START.size}")
    length, major, minor, data_length, codes, flags, trans_id = _START.unpack_from(datagram)
    if length != size:
        raise MalformedError(f"LENGTH is {length}, the datagram has {size} octets")
    if major:
        raise MalformedError(f"major version {major}; takes 0")
    end = HEADER_BYTES + data_length
    if data_length < _DATA_BYTES or end > size:
        raise MalformedError(f"LENGTH of DATA is {data_length}, there are {size - HEADER_BYTES} octets")
    if not minor and (flags & (_OLD_RR | _OLD_F1) or not (flags & (_RR | _F1) or codes >> 4)):
        rr, f1, opcode, is_old = flags & _OLD_RR, flags & _OLD_F1, codes & 15, True
    else:
        rr, f1, opcode, is_old = flags & _RR, flags & _F1, codes >> 4, False
    return Head(minor, opcode, bool(rr), bool(f1 and not rr), trans_id, end, is_old)


def uri_of(datagram: bytes, head: Head) -> bytes:
    """Return the URI of a CLR or TST.

    Raises:
        MalformedError: a counted string of its SPECIFIER goes beyond DATA.
    """
    at, end, uri = _START.size + (2 if head.opcode == CLR else 0), head.end, b""  # a CLR has a REASON
    for number in range(_SPECIFIER_TEXTS):
        start = at + 2
        if start > end or (at := start + (datagram[at] << 8 | datagram[at + 1])) > end:
            raise MalformedError("a counted string of SPECIFIER goes beyond DATA")
        if number == 1:
            uri = datagram[start:at]
    return uri


def answer_to(head: Head, response: int, *, is_overall: bool = False, op_data: bytes = b"") -> bytes:
    """Return the answer to a message, up to its AUTH: HEADER without LENGTH yet, see `finish`, and DATA.

    Args:
        head: of the request.
        response: RESPONSE code.
        is_overall: it is about the message as a whole (MO).
        op_data: OP-DATA.
    """
    if head.is_old:
        codes, flags = response << 4 | head.opcode, _OLD_RR | (_OLD_F1 if is_overall else 0)
    else:
        codes, flags = head.opcode << 4 | response, _RR | (_F1 if is_overall else 0)
    minor = min(head.minor, MINOR_MAX)
    start = _START.pack(0, 0, minor, _DATA_BYTES + len(op_data), codes, flags, head.trans_id)
    return start + op_data


def finish(message: bytes, auth: bytes = _NO_AUTH) -> bytes:
    """Return a whole datagram: a message up to AUTH, and AUTH, with the LENGTH that both have."""
    return _SHORT.pack(len(message) + len(auth)) + message[2:] + auth
