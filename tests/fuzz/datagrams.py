"""Cases for an HTCP door: datagrams that are nearly right, and a client that sends them."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import TYPE_CHECKING, Final

from tests.fakes.htcp_clients import (
    CLR,
    MON,
    NOP,
    SET,
    TST,
    Signed,
    clr,
    counted,
    data,
    datagram,
    mediawiki,
    read_answer,
    signed,
    specifier,
    tst,
)
from tests.fuzz.wire import HangError

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET: Final = b"fuzz" * 16
_URL: Final = "http://img.example.com/a.jpg"
_URLS: Final = (
    _URL,
    "http://b.org:80/",
    "https://img.example.com/a*",
    "http://evil.org/a",
    "/a",
    "",
    "http://user@img.example.com/",
    "http://img.example.com/a#b",
    "http://[::1]/",
    "http://bücher.example.com/ä",
    "http://img.example.com/" + "a" * 9000,
    "http://" + "a." * 200 + "example.com/",
)
_WORDS: Final = (0, 1, 2, 7, 8, 0x7FFF, 0x8000, 0xFFFF)
_ANSWER_MAX: Final = 20  #: octets of an answer that is not signed
_PING: Final = 0x7A7A0000  #: TRANS-ID of what ends a case
_PATIENCE_S: Final = 10.0


class Datagrams:
    """Makes cases. The same seed and number make the same one.

    Args:
        seed: of all of them.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def case(self, number: int) -> bytes:
        """Return one case, not signed."""
        chosen = random.Random(f"{self._seed}:{number}")
        made = bytearray(self._good(chosen))
        changes = chosen.choice((0, 0, 1, 1, 1, 2, 3, 8))
        for _ in range(changes):
            _change(made, chosen)
        if changes and chosen.random() < 0.7:  # most are read further than LENGTH
            made[:2] = struct.pack("!H", len(made) & 0xFFFF)
        return bytes(made)

    def signed(self, number: int, here: tuple[str, int], door: tuple[str, int]) -> bytes:
        """Return one case, signed before it was changed."""
        chosen = random.Random(f"{self._seed}:signed:{number}")
        section = data(chosen.choice((CLR, TST)), bytes(2) + specifier(_URL), wants_answer=True)
        key = Signed(
            SECRET, chosen.choice((b"fuzz", b"fuzz", b"other", b"")), lasts_s=chosen.choice((60, -60))
        )
        made = bytearray(signed(section, key, here, door))
        for _ in range(chosen.choice((0, 1, 1, 2))):
            _change(made, chosen)
        if chosen.random() < 0.7:
            made[:2] = struct.pack("!H", len(made) & 0xFFFF)
        return bytes(made)

    def _good(self, chosen: random.Random) -> bytes:
        url = chosen.choice(_URLS)
        wants = chosen.random() < 0.5
        way = chosen.randrange(7)
        if way == 0:
            return mediawiki(url, chosen.randrange(1 << 32))
        if way == 1:
            return tst(url)
        if way == 2:
            opcode = chosen.choice((NOP, TST, MON, SET, 9))
            return datagram(data(opcode, chosen.randbytes(chosen.randrange(20)), wants_answer=wants))
        if way == 3:
            minor = chosen.choice((0, 1, 2, 255))
            section = data(CLR, bytes(2) + specifier(url), wants_answer=wants, is_old=chosen.random() < 0.5)
            return datagram(section, minor=minor, major=chosen.choice((0, 0, 0, 1)))
        if way == 4:
            section = data(CLR, bytes(2) + specifier(url, chosen.randbytes(8), counted(b"x"), b"\0" * 50))
            return datagram(
                section + b"padding", chosen.choice((b"", b"\0\2", b"\0\3x", b"\0\x20" + bytes(30)))
            )
        return clr(url, wants_answer=wants)


def _change(made: bytearray, chosen: random.Random) -> None:
    """Change some octets: one, a length, leave out, put in, end early."""
    at = chosen.randint(0, len(made))
    way = chosen.randrange(7)
    if way == 0 and made:
        made[at % len(made)] = chosen.randrange(256)
    elif way == 1 and made:
        made[at % len(made)] ^= 1 << chosen.randrange(8)
    elif way == 2:
        place = chosen.choice((0, 4, 12, 14, 16, at))
        made[place : place + 2] = struct.pack("!H", chosen.choice(_WORDS))
    elif way == 3:
        del made[at : at + chosen.choice((1, 2, 9))]
    elif way == 4:
        made[at:at] = chosen.randbytes(chosen.choice((1, 2, 9, 300)))
    elif way == 5:
        del made[at:]
    else:
        made += made[: chosen.choice((2, 12, len(made)))]
    del made[60_000:]


class DatagramClient(asyncio.DatagramProtocol):
    """Sends cases to a door that does not ask for signatures, or to both.

    Attributes:
        faults: answers that no client could use.
        pings: datagrams that ended cases.
        responses: of answers to cases, by (opcode, RESPONSE, MO).
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.responses: dict[tuple[int, int, bool], int] = {}
        self._transport: asyncio.DatagramTransport
        self.pings = 0
        self._pinged = 0
        self._pong, self._closed = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    @property
    def here(self) -> tuple[str, int]:
        """Its address."""
        return tuple(self._transport.get_extra_info("sockname")[:2])

    def datagram_received(self, datagram: bytes, addr: object) -> None:
        """Read an answer."""
        try:
            answer = read_answer(datagram, is_old=not datagram[3] and bool(datagram[7] & 0x80))
        except (AssertionError, struct.error, IndexError) as exc:
            self.faults.append(f"an answer that nobody can read: {datagram!r}: {exc!r}")
            return
        if answer.trans_id == self._pinged and answer.opcode == NOP:
            self._pong.set()
            return
        if not answer.auth and len(datagram) > _ANSWER_MAX:
            self.faults.append(f"an answer of {len(datagram)} octets: {datagram!r}")
        key = (answer.opcode, answer.response, answer.is_overall)
        self.responses[key] = self.responses.get(key, 0) + 1

    async def send(self, cases: Sequence[tuple[bytes, tuple[str, int]]], ping: tuple[str, int]) -> None:
        """Send datagrams, then one to the door *ping*, and wait until that is answered.

        Raises:
            HangError: it is not.
        """
        self._pinged = (self._pinged + 1) % 0xFFFF | _PING
        self._pong.clear()
        for message, door in cases:
            self._transport.sendto(message, door)
        for _ in range(3):  # the kernel may drop one, which is counted
            self._transport.sendto(datagram(data(NOP, wants_answer=True, trans_id=self._pinged)), ping)
            self.pings += 1
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._pong.wait()
            except TimeoutError:
                continue
            return
        raise HangError(f"no answer to a NOP within {_PATIENCE_S:g} s")

    async def close(self) -> None:
        """Close the socket: a loop that ends with an open one does not end."""
        self._transport.close()
        await self._closed.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._closed.set()
