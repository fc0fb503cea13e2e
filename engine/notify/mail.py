"""Alerts by mail: one SMTP session each, in a thread, with the standard library's client."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import smtplib
from email.message import EmailMessage
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from engine.base.imports import tls_context
from engine.notify.formats import moment
from engine.notify.post import REQUEST_TIMEOUT_S, Answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from engine.config.tables import AlertConfig
    from engine.notify.formats import Alert

SUBJECT_MAX_CHARS: Final = 120
PORTS: Final = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_DELIVERED: Final = 250
_REFUSED: Final = 400  #: stands for an answer that another attempt would not change
_PERMANENT: Final = 500  #: SMTP replies from there on


def mail_of(alert: Alert, sender: str, receivers: Sequence[str]) -> EmailMessage:
    """Return an alert as a mail; those of one key are one thread."""
    message = EmailMessage()
    subject = " ".join(f"purgeline: {alert.level}: {alert.message}".split())
    message["Subject"] = subject[:SUBJECT_MAX_CHARS]
    message["From"] = sender
    message["To"] = ", ".join(receivers)
    message["Date"] = email.utils.formatdate(alert.time, usegmt=True)
    message["Message-ID"] = email.utils.make_msgid(domain="purgeline")
    thread = f"<{hashlib.sha256(f'{alert.host} {alert.key}'.encode()).hexdigest()[:32]}@purgeline>"
    message["References"] = thread
    message["In-Reply-To"] = thread
    message["Auto-Submitted"] = "auto-generated"
    lines = [
        alert.message,
        "",
        f"changed:  {alert.changed}",
        f"about:    {alert.key}",
        f"engine:   {alert.host}",
        f"since:    {moment(alert.since or alert.time)}",
        f"time:     {moment(alert.time)}",
        *(f"{name + ':':9} {value}" for name, value in alert.facts.items()),
        *([f"and {alert.suppressed} other alerts that did not fit"] if alert.suppressed else []),
    ]
    message.set_content("\n".join(lines) + "\n")
    return message


class Mailer:
    """Sends alerts by mail.

    Args:
        config: ``smtp_url``, ``mail_from``, ``mail_to``.
    """

    def __init__(self, config: AlertConfig) -> None:
        parts = urlsplit(config.smtp_url)
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender = config.mail_from
        self._receivers = config.mail_to

    async def send(self, alert: Alert) -> Answer:
        """Send one; never raises for what the other side does."""
        tls = None if self._scheme == "smtp" else await tls_context()
        return await asyncio.to_thread(self._send, alert, tls)

    def _send(self, alert: Alert, tls: ssl.SSLContext | None) -> Answer:
        message = mail_of(alert, self._sender, self._receivers)
        try:
            with self._connect(tls) as server:
                if self._user:
                    server.login(self._user, self._password)
                refused = server.send_message(message)
        except smtplib.SMTPResponseException as exc:
            return _answer(exc.smtp_code, f"answered {exc.smtp_code} {exc.smtp_error!r}")
        except smtplib.SMTPRecipientsRefused as exc:
            code = min(reply[0] for reply in exc.recipients.values())
            return _answer(code, f"no receiver is taken ({code})")
        except (OSError, smtplib.SMTPException, ValueError) as exc:
            return Answer(reason=f"{type(exc).__name__}: {exc}".rstrip(": "))
        return Answer(_DELIVERED, reason=f"not taken: {', '.join(refused)}" if refused else "")

    def _connect(self, tls: ssl.SSLContext | None) -> smtplib.SMTP:
        if self._scheme == "smtps":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=REQUEST_TIMEOUT_S, context=tls)
        server = smtplib.SMTP(self._host, self._port, timeout=REQUEST_TIMEOUT_S)
        if tls is not None:
            try:
                server.starttls(context=tls)
            except BaseException:
                server.close()
                raise
        return server


def _answer(code: int, reason: str) -> Answer:
    return Answer(_REFUSED if code >= _PERMANENT else 0, reason=reason)
