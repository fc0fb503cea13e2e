"""``kind = "htcp"``: CLR and TST of RFC 2756, as MediaWiki and Squid send them."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.doors.allow import AllowList
from engine.doors.htcp import messages, tally, udp
from engine.doors.htcp.batches import KIND, Batches
from engine.doors.htcp.key_file import read_keys
from engine.doors.htcp.messages import MalformedError, Overall
from engine.doors.htcp.receiver import Receiver
from engine.doors.htcp.signing import BadSignatureError, Signing, UnsignedError, ends_of, packed
from engine.errors import RequestError
from engine.intake.auth import ANONYMOUS
from engine.intake.urls import are_plain, normalise_url, plain_start
from engine.tasks.records import By

if TYPE_CHECKING:
    import socket

    from engine.config.doors import HtcpDoorConfig
    from engine.doors.htcp.messages import Head
    from engine.doors.submitting import Submitting
    from engine.intake.auth import Auth
    from engine.observe.audit import Audit


LAST_TRY_S: Final = 1.0  #: at the end, for what is refused for now and handed in once more


class HtcpDoor:
    """One door of this kind; see `ports.DatagramDoor`.

    Args:
        door: its table.
        auth: knows the token.
        submitting: takes what is asked for.
        counts: of the datagrams.
        audit: told whose purges are refused.

    Raises:
        ConfigError: ``key_file`` cannot be used.
    """

    def __init__(
        self,
        door: HtcpDoorConfig,
        auth: Auth,
        submitting: Submitting,
        *,
        counts: tally.Tally,
        audit: Audit,
    ) -> None:
        self._config = door
        self._allow = AllowList(door.allow)
        self._signing: Signing | None = None
        if door.key_file:
            self._signing = Signing(read_keys(f"door {door.listen!r}", door.key_file), door.clock_skew_s)
        self._token = auth.named(door.token or ANONYMOUS)
        self._audit = audit
        self._tally = counts
        wait_s = door.wait_s if door.wait == "acked" else 0
        self._batches = Batches(submitting, self._token, counts, wait_s=wait_s)
        self._receiver: Receiver | None = None

    def __repr__(self) -> str:
        return f"<HtcpDoor {self._config.listen}>"

    # Its socket

    def receive_on(self, sock: socket.socket) -> None:
        """Take the datagrams of a socket, which is bound already."""
        door = self._config
        kept = udp.keep(sock, door.receive_buffer_bytes)
        if kept < door.receive_buffer_bytes:
            logger.warning(
                "door {!r}: the kernel keeps {} bytes of datagrams and not receive_buffer_bytes, {}; what is "
                "more at a time is lost: set net.core.rmem_max to {}",
                door.listen,
                kept,
                door.receive_buffer_bytes,
                door.receive_buffer_bytes // 2,
            )
        if udp.is_any(sock):
            udp.tell_destinations(sock)
        try:
            udp.join(sock, door.groups)
        except OSError as exc:  # the rest of the door is worth having
            self._tally.alert("error", f"groups cannot be joined: {exc.strerror or exc}")
        self._receiver = Receiver(sock, self.take, self._batches.has_room)
        self._receiver.start()
        self._tally.watch(self._receiver.dropped)

    def stop_receiving(self) -> None:
        """Read what waits already, and hand in what has been gathered. Safe to call again."""
        if self._receiver is not None:
            self._receiver.stop()
        self._batches.flush()

    async def wait_saved(self, timeout_s: float) -> None:
        """After `stop_receiving`: wait until what was taken is saved or refused, for at most *timeout_s*."""
        if self._receiver is not None:
            await self._receiver.wait_over()
        last_try_s = min(LAST_TRY_S, timeout_s / 2)
        await self._batches.wait_empty(timeout_s - last_try_s)  # nobody sends a datagram twice
        self._batches.stop_retrying()
        await self._batches.wait_empty(last_try_s)

    def close(self) -> None:
        """Close the socket. Safe to call again."""
        self._batches.close()
        self._tally.close()
        if self._receiver is not None:
            self._receiver.close()

    # A datagram

    def take(self, datagram: bytes, source: udp.Source, control: udp.Control) -> None:
        """Do what a datagram asks for."""
        address = source[0]
        if not self._allow.has(address):
            self._tally.refuse(tally.ADDRESS, address)
            return
        try:
            head = messages.read_head(datagram)
            if head.is_response:
                self._tally.count(tally.IGNORED)
                return
            request = _Request(self._receiver, self._signing, head, source, control)
            if self._signing is not None and not self._is_signed(request, datagram):
                return
            if head.minor > messages.MINOR_MAX:
                self._refuse(request, tally.VERSION, f"minor version {head.minor}", Overall.MINOR_UNSUPPORTED)
            elif head.opcode == messages.CLR:
                self._clear(request, messages.uri_of(datagram, head))
            elif head.opcode in {messages.TST, messages.NOP}:
                self._test(request, datagram)
            else:
                self._refuse(request, tally.OPCODE, f"opcode {head.opcode}", Overall.OPCODE_UNKNOWN)
        except MalformedError as exc:
            self._tally.refuse(tally.MALFORMED, address, str(exc))

    def _is_signed(self, request: _Request, datagram: bytes) -> bool:
        """Tell whether a message is signed as it has to be; otherwise its sender is told.

        Raises:
            MalformedError: its AUTH cannot be read.
        """
        assert self._signing is not None
        try:
            request.key_name = self._signing.check(datagram, request.head.end, request.ends(), time.time())
        except UnsignedError:
            self._refuse(request, tally.UNSIGNED, "not signed", Overall.UNSIGNED, status=401)
        except BadSignatureError as exc:
            self._refuse(request, tally.SIGNATURE, str(exc), Overall.BADLY_SIGNED, status=401)
        else:
            return True
        return False

    def _clear(self, request: _Request, uri: bytes) -> None:
        try:
            url = self._url_of(uri)
        except RequestError as exc:
            outcome = tally.SITE if exc.status == 403 else tally.URI  # noqa: PLR2004 - HTTP
            self._refuse(request, outcome, str(exc), Overall.UNDESIRED, status=exc.status)
            return
        answer = partial(request.answer, is_overall=False) if request.head.wants_answer else None
        self._batches.add(url, request.source[0], answer)

    def _url_of(self, uri: bytes) -> str:
        """Return the stored form of a URL.

        Raises:
            RequestError: 422 it is none, 403 the token may not purge it.
        """
        try:
            url, host = uri.decode(), ""
        except UnicodeDecodeError:
            raise RequestError(422, "URI: has octets that must be percent-encoded") from None
        if are_plain([url]):
            _, host = plain_start(url)
        if not host:
            url, host = normalise_url(url, "URI")
        if not self._token.hosts.allows(host):
            raise RequestError(403, f"URI: host {host!r} is not among the sites that this door may purge")
        return url

    def _test(self, request: _Request, datagram: bytes) -> None:
        """Answer a TST or NOP. The engine holds no objects, so nothing is present.

        Raises:
            MalformedError: a TST has no SPECIFIER; the answer would be longer than it.
        """
        if not request.head.wants_answer:
            self._tally.count(tally.IGNORED)
            return
        is_test = request.head.opcode == messages.TST
        if is_test:
            messages.uri_of(datagram, request.head)
        self._tally.count(tally.ANSWERED)
        if is_test:
            request.answer(messages.TST_ABSENT, op_data=messages.ABSENT)
        else:
            request.answer(0)

    def _refuse(
        self, request: _Request, outcome: str, why: str, overall: Overall, *, status: int = 0
    ) -> None:
        """Count what is not done, and tell its sender, if it has asked for that."""
        address = request.source[0]
        self._tally.refuse(outcome, address, why)
        if status:
            opcode = messages.NAMES.get(request.head.opcode, str(request.head.opcode))
            by = By(self._token.name, address, KIND)
            self._audit.refused(status, why, by, request=f"HTCP {opcode}")
        if request.head.wants_answer:
            request.answer(overall, is_overall=True)


class _Request:
    """One message and where it came from, so that it can be answered."""

    __slots__ = ("_control", "_receiver", "_signing", "head", "key_name", "source")

    def __init__(
        self,
        receiver: Receiver | None,
        signing: Signing | None,
        head: Head,
        source: udp.Source,
        control: udp.Control,
    ) -> None:
        self._receiver = receiver
        self._signing = signing
        self._control = control
        self.head = head
        self.source = source
        self.key_name = b""  # that it is signed with

    def ends(self, *, is_answer: bool = False) -> bytes:
        """Return both addresses and ports, as a signature covers them."""
        assert self._receiver is not None
        here = self._receiver.destination(self._control), self._receiver.port
        there = packed(self.source[0]), self.source[1]
        return ends_of(*here, *there) if is_answer else ends_of(*there, *here)

    def answer(self, response: int, *, is_overall: bool = False, op_data: bytes = b"") -> None:
        """Send the answer, signed as the request was; what came to a group is answered by nobody."""
        receiver = self._receiver
        assert receiver is not None
        if udp.is_group(receiver.destination(self._control)):
            return
        message = messages.answer_to(self.head, response, is_overall=is_overall, op_data=op_data)
        if self.key_name and self._signing is not None:
            auth = self._signing.auth_of(message, self.key_name, self.ends(is_answer=True), time.time())
            message = messages.finish(message, auth)
        else:
            message = messages.finish(message)
        receiver.send(message, self.source, self._control)
