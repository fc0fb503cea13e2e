"""Signed POSTs of JSON: what callbacks and alerts have in common.

Redirects are not followed. A name is resolved when it is sent to: a name that an outsider controls can
point inside (DNS rebinding), and keeping such names out of the rules is the operator's part.
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
from yarl import URL

from engine.base.backoff import backoff_s
from engine.base.imports import tls_context

if TYPE_CHECKING:
    import ssl

REQUEST_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0  #: also the longest Retry-After that is honoured
_WORTH_RETRYING: Final = frozenset({408, 425, 429})


class Answer(msgspec.Struct):
    """What came of one POST."""

    status: int = 0  #: 0: no answer
    retry_after_s: float = 0.0
    reason: str = ""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP

    @property
    def is_final(self) -> bool:
        """Whether another attempt would change nothing."""
        return 0 < self.status < 500 and self.status not in _WORTH_RETRYING  # noqa: PLR2004 - HTTP

    def pause_s(self, attempt: int) -> float:
        """Return how long to wait after *attempt*, which counts from 1; with full jitter."""
        pause_s = backoff_s(attempt, first_s=BACKOFF_FIRST_S, max_s=BACKOFF_MAX_S, least=0)
        return max(self.retry_after_s, pause_s)


class Poster:
    """Posts JSON, signed when there is a secret. `session` is there between start and close."""

    session: aiohttp.ClientSession | None = None
    _tls: ssl.SSLContext | None = None

    def start(self) -> None:
        """Open the session."""
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),  # the limits are ours; alerts have a place of their own
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the session, if it was opened."""
        if self.session is not None:
            await self.session.close()

    async def post(self, url: str, body: bytes, secret: str, headers: dict[str, str]) -> Answer:
        """POST once; never raises for what the other side does."""
        assert self.session is not None
        stamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "Purgeline-Timestamp": stamp, **headers}
        if secret:
            mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
            headers["Purgeline-Signature"] = f"v1={mac.hexdigest()}"
        target = URL(url, encoded=True)
        try:
            tls = await self._context() if target.scheme == "https" else True
            async with self.session.post(
                target, data=body, headers=headers, allow_redirects=False, ssl=tls
            ) as response:
                wait_s = retry_after_s(response.headers.get("Retry-After", ""))
                moved = " (redirects are not followed)" if 300 <= response.status < 400 else ""  # noqa: PLR2004 - HTTP
                return Answer(response.status, wait_s, f"answered {response.status}{moved}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            return Answer(reason=f"{type(exc).__name__}: {exc}".rstrip(": "))

    async def _context(self) -> ssl.SSLContext:
        """Return what https is spoken with, made for the first receiver that wants it."""
        if self._tls is None:
            self._tls = await tls_context()
        return self._tls


def retry_after_s(value: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 without a usable one."""
    try:
        delay_s = float(value) if value.isdecimal() else _until(value)
    except (ValueError, OverflowError):
        return 0.0
    return min(max(delay_s, 0.0), BACKOFF_MAX_S)


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
