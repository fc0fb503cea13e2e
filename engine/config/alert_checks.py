"""What ``[alert]`` is refused for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from engine.config.redis_url import without_password
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.config.tables import AlertConfig

_SCHEMES: Final = frozenset({"smtp", "smtps", "smtp+starttls"})
_ADDRESS: Final = re.compile(r"[!#-'*+/-9=?A-Z^-~-]+(\.[!#-'*+/-9=?A-Z^-~-]+)*@[A-Za-z0-9.-]+")


def check_alert(alert: AlertConfig) -> None:
    """Refuse a table by which nobody could be told.

    Raises:
        ConfigError: it names the key, and what it takes.
    """
    try:
        url = urlsplit(alert.url)
        is_http = url.scheme in {"http", "https"} and bool(url.hostname)
    except ValueError:
        is_http = False
    if alert.url and not is_http:
        raise ConfigError(f"alert.url: {without_password(alert.url)!r} is not an http or https URL")
    if alert.format != "purgeline" and not alert.url:
        raise ConfigError(f"alert.format: {alert.format!r} needs alert.url")
    if not 0 <= alert.repeat_s < 2**53:
        raise ConfigError(f"alert.repeat_s: {alert.repeat_s} is out of range, at least 0")
    _check_mail(alert)


def _check_mail(alert: AlertConfig) -> None:
    keys = {"smtp_url": alert.smtp_url, "mail_from": alert.mail_from, "mail_to": alert.mail_to}
    if not any(keys.values()):
        return
    missing = [key for key, value in keys.items() if not value]
    if missing:
        raise ConfigError(
            f"alert: smtp_url, mail_from and mail_to go together; missing: {', '.join(missing)}"
        )
    for key, addresses in (("mail_from", [alert.mail_from]), ("mail_to", alert.mail_to)):
        for address in addresses:
            if not _ADDRESS.fullmatch(address):
                raise ConfigError(f"alert.{key}: {address!r} is no mail address, such as ops@example.com")
    shown = without_password(alert.smtp_url)
    takes = "smtp://, smtps:// or smtp+starttls://[USER:PASSWORD@]HOST[:PORT]"
    try:
        parts = urlsplit(alert.smtp_url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"alert.smtp_url: {shown!r} is no {takes}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0 or parts.path not in {"", "/"}:
        raise ConfigError(f"alert.smtp_url: {shown!r} is no {takes}")
    if parts.username and parts.scheme == "smtp":
        raise ConfigError("alert.smtp_url: a password goes over smtps:// or smtp+starttls:// only")
