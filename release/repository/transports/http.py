"""A repository behind a web server, to read only. What is read is believed for its signature, not for TLS."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

from release.errors import RepositoryError
from release.repository.transports.transport import CHUNK_BYTES, Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

_NOT_FOUND = (404, 410)


class HttpTransport:
    """A `Transport` that only reads."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._base = url.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0].rstrip("/")
        self.url = self._base.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1)
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoDowngrade)

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """See the protocol."""
        content = bytearray()
        try:
            for chunk in self.stream(name):
                content += chunk
                if len(content) > bytes_max:
                    raise RepositoryError(f"{self.url}: {name} is larger than {bytes_max} bytes")
        except _MissingError:
            return None
        return bytes(content)

    def stream(self, name: str) -> Iterator[bytes]:
        """See the protocol. urllib gives an answer that ends early without an error, so bytes are counted."""
        request = urllib.request.Request(  # noqa: S310  # connect() lets http and https through
            f"{self._base}/{quote(name)}", headers={"Cache-Control": "no-cache", "User-Agent": "purgeline"}
        )
        where = f"{self.url}/{name}"
        with self._errors(where), self._opener.open(request, timeout=self._timeout_s) as answer:
            wanted = answer.length  # None for a chunked answer, which http.client checks itself
            got = 0
            while chunk := answer.read(CHUNK_BYTES):
                got += len(chunk)
                yield chunk
            if wanted is not None and got < wanted:
                raise RepositoryError(f"{where}: ended after {got} of {wanted} bytes; run it again")

    def names(self) -> dict[str, Stat]:
        """See the protocol."""
        self._refuse()

    def stage(self, content: IO[bytes]) -> str:
        """See the protocol."""
        self._refuse()

    def commit(self, staged: str, name: str) -> None:
        """See the protocol."""
        self._refuse()

    def claim(self, staged: str, name: str) -> bool:
        """See the protocol."""
        self._refuse()

    def remove(self, name: str) -> None:
        """See the protocol."""
        self._refuse()

    def close(self) -> None:
        """There is nothing to close."""

    def _refuse(self) -> NoReturn:
        raise RepositoryError(
            f"{self.url} can only be read; with --repository, publish to the folder behind it or over ssh://"
        )

    @contextlib.contextmanager
    def _errors(self, where: str) -> Iterator[None]:
        try:
            yield
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code in _NOT_FOUND:
                raise _MissingError(f"{where}: the server has no such file ({exc.code})") from exc
            raise RepositoryError(f"{where}: the server answered {exc.code} {exc.reason}") from exc
        except urllib.error.URLError as exc:
            raise RepositoryError(f"{where}: cannot be reached: {exc.reason}") from exc
        except http.client.IncompleteRead as exc:
            raise RepositoryError(f"{where}: the answer ended early; run it again") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise RepositoryError(f"{where}: cannot be read: {str(exc) or type(exc).__name__}") from exc


class _MissingError(RepositoryError):
    """The server has no such file."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https only to https."""

    def redirect_request(  # noqa: PLR0917  # urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse a redirect that leaves https."""
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise RepositoryError(f"{req.full_url}: redirects from https to {newurl}; that is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
