"""Finds the way to a repository by its URL. Only the module of the way that is taken is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from release.errors import SettingsError

if TYPE_CHECKING:
    from release.repository.transports.transport import Transport
    from release.settings import Settings


def connect(url: str, settings: Settings) -> Transport:
    """Return the transport for *url*: a folder, ``ssh://``, ``http://``, ``https://``.

    Raises:
        SettingsError: it is none of these.
    """
    if "://" not in url:
        from release.repository.transports.folder import FolderTransport  # noqa: PLC0415

        return FolderTransport(Path.cwd() / _expanded(url))
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise SettingsError(f"repository {url!r}: {exc}") from exc
    if parts.scheme in {"http", "https"} and parts.hostname:
        from release.repository.transports.http import HttpTransport  # noqa: PLC0415

        return HttpTransport(url, timeout_s=settings.connect_timeout_s)
    if parts.scheme == "ssh" and parts.hostname and parts.path.strip("/") and not parts.password:
        from release.repository.transports.ssh import SshTransport  # noqa: PLC0415

        return SshTransport(parts, known_hosts=settings.known_hosts, timeout_s=settings.connect_timeout_s)
    raise SettingsError(
        f"repository {url!r}: takes a folder, ssh://[user@]host[:port]/path (no password in it), "
        "or http(s)://host/path to read"
    )


def _expanded(path: str) -> Path:
    if not path.strip():
        raise SettingsError("repository: takes a folder or a URL, not an empty text")
    return Path(path).expanduser()
