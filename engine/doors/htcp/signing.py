"""Signatures of HTCP messages: the HMAC-MD5 of AUTH (RFC 2756 section 2.8).

A signature covers both addresses and ports, so no NAT may be in between: the four octets of an IPv4
address, the sixteen of an IPv6 address, for which the RFC has no room. A datagram that somebody has
recorded can be sent again as long as its signature holds, from the same address and port: that is
`AGE_MAX_S` and the difference of clocks at most, whatever SIG-EXPIRE says. It purges what was purged by
its sender, once more.
"""

from __future__ import annotations

import hmac
import socket
import struct
from typing import TYPE_CHECKING, Final

from engine.doors.htcp.messages import HEADER_BYTES, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

AGE_MAX_S: Final = 300  #: since SIG-TIME; a sender signs each datagram as it goes out
_EXPIRES_S: Final = 60  #: of answers
_FIXED: Final = struct.Struct("!HIIH")  #: LENGTH, SIG-TIME, SIG-EXPIRE, and the length of KEY-NAME
_SHORT: Final = struct.Struct("!H")
_NO_AUTH_BYTES: Final = 2
_MAPPED: Final = bytes(10) + b"\xff\xff"  #: how an IPv6 address begins that stands for an IPv4 address


class UnsignedError(Exception):
    """A message without a signature, where one is needed."""


class BadSignatureError(Exception):
    """A signature that does not hold; the text says why, and is for the log alone."""


class Auth:
    """The AUTH of one message.

    Args:
        datagram: the whole message.
        end: of its DATA.

    Raises:
        UnsignedError: there is none.
        MalformedError: it goes beyond the datagram.
    """

    __slots__ = ("covered", "expires", "key_name", "signature", "signed_at")

    def __init__(self, datagram: bytes, end: int) -> None:
        size = len(datagram) - end
        length = _SHORT.unpack_from(datagram, end)[0] if size >= _NO_AUTH_BYTES else _NO_AUTH_BYTES
        if length == _NO_AUTH_BYTES:
            raise UnsignedError
        if not _FIXED.size + 2 <= length <= size:
            raise MalformedError(f"LENGTH of AUTH is {length}, there are {size} octets")
        _, self.signed_at, self.expires, name_bytes = _FIXED.unpack_from(datagram, end)
        name_at = end + _FIXED.size
        name_end = name_at + name_bytes
        if name_end + 2 > end + length:
            raise MalformedError("KEY-NAME goes beyond AUTH")
        signature_at = name_end + 2
        signature_end = signature_at + _SHORT.unpack_from(datagram, name_end)[0]
        if signature_end > end + length:
            raise MalformedError("SIGNATURE goes beyond AUTH")
        self.key_name = datagram[name_at:name_end]
        self.signature = datagram[signature_at:signature_end]
        self.covered = (
            datagram[2:HEADER_BYTES]
            + datagram[end + 2 : end + 10]
            + datagram[HEADER_BYTES:end]
            + datagram[name_at - 2 : name_end]
        )


class Signing:
    """Checks the signatures of requests and signs their answers.

    Args:
        secrets: by the names of their keys.
        skew_s: how far the clocks of clients may be off.
    """

    def __init__(self, secrets: Mapping[bytes, bytes], skew_s: float) -> None:
        self._secrets = secrets
        self._skew_s = skew_s

    def check(self, datagram: bytes, end: int, ends: bytes, now: float) -> bytes:
        """Return the name of the key that a message is signed with.

        Args:
            datagram: the whole message.
            end: of its DATA.
            ends: its addresses and ports, see `ends_of`.
            now: UNIX seconds.

        Raises:
            UnsignedError: it is not signed.
            BadSignatureError: it is, and not well.
            MalformedError: AUTH cannot be read.
        """
        auth = Auth(datagram, end)
        secret = self._secrets.get(auth.key_name)
        if secret is None:
            raise BadSignatureError(f"key {_shown(auth.key_name)} is not in key_file")
        expected = hmac.digest(secret, ends + auth.covered, "md5")
        if not hmac.compare_digest(expected, auth.signature):
            raise BadSignatureError(f"the signature is not that of key {_shown(auth.key_name)}")
        skew_s = self._skew_s
        if auth.signed_at > now + skew_s:
            raise BadSignatureError(f"signed {auth.signed_at - now:.0f} s in the future: clocks differ")
        if now > auth.expires + skew_s:
            raise BadSignatureError(f"expired {now - auth.expires:.0f} s ago")
        if now > auth.signed_at + AGE_MAX_S + skew_s:
            raise BadSignatureError(f"signed {now - auth.signed_at:.0f} s ago, at most {AGE_MAX_S} s count")
        return auth.key_name

    def auth_of(self, message: bytes, key_name: bytes, ends: bytes, now: float) -> bytes:
        """Return the AUTH of an answer.

        Args:
            message: the answer up to its AUTH.
            key_name: of the request.
            ends: addresses and ports of the answer.
            now: UNIX seconds.
        """
        times = struct.pack("!II", int(now), int(now) + _EXPIRES_S)
        name = _SHORT.pack(len(key_name)) + key_name
        covered = ends + message[2:HEADER_BYTES] + times + message[HEADER_BYTES:] + name
        signature = hmac.digest(self._secrets[key_name], covered, "md5")
        text = times + name + _SHORT.pack(len(signature)) + signature
        return _SHORT.pack(len(text) + 2) + text


def ends_of(source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
    """Return the addresses and ports of a datagram as its signature covers them; addresses as `packed`."""
    return source + _SHORT.pack(source_port) + destination + _SHORT.pack(destination_port)


def packed(address: str) -> bytes:
    """Return the octets of an address: of an IPv4 address four, also where an IPv6 socket has taken it in."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    return unmapped(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]))


def unmapped(octets: bytes) -> bytes:
    """Return the octets of an IPv6 address, or of the IPv4 address that it stands for."""
    return octets.removeprefix(_MAPPED)


def _shown(name: bytes) -> str:
    return repr(name[:64].decode("latin-1"))
