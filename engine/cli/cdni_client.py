"""The client of another CDN's triggers (RFC 8007), which may be another Purgeline's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from engine.cli.client import EngineClient
from engine.cli.documents import encode
from engine.cli.exits import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.cli.documents import Document

SETTLED = frozenset({"complete", "processed", "failed", "cancelled", "canceled"})
GOOD = frozenset({"complete", "processed"})
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 2.0
_POLL_GROWTH = 1.5
_ACCEPTED = 202


class CdniClient(EngineClient):
    """One connection to the collection of all triggers of a downstream CDN.

    Args:
        url: of that collection.
        options: see `EngineClient`.
    """

    content_type = "application/cdni; ptype=ci-trigger-command"

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._headers["Accept"] = "application/cdni, application/problem+json;q=0.5"

    def create(self, trigger: Document, path: Sequence[str]) -> tuple[str, Document]:
        """Create a trigger; return its URL, and its status.

        Raises:
            EngineUnreachableError: nothing usable came back.
            ProblemError: the CDN refuses it.
        """
        body = encode({"trigger": trigger, "cdn-path": list(path)})
        _, headers, content = self._successful("POST", "", body)
        location = headers.get("Location")
        if not location:
            raise self._no_engine("no Location")
        return urljoin(self.url, location), self._status(self._object(content))

    def status(self, url: str) -> Document:
        """Return a trigger's status; errors as `create`."""
        return self._status(self.request("GET", self._below(url)))

    def cancel_all(self, urls: Sequence[str], path: Sequence[str]) -> bool:
        """Cancel triggers; tell whether all have ended by now; errors as `create`."""
        body = encode({"cancel": [urljoin(f"{self.url}/", url) for url in urls], "cdn-path": list(path)})
        return self._successful("POST", "", body)[0] != _ACCEPTED

    def delete(self, url: str) -> None:
        """Delete a trigger; errors as `create`."""
        self._successful("DELETE", self._below(url), None)

    def collection(self, name: str = "all") -> Document:
        """Return a collection, by its name; errors as `create`."""
        document = self.request("GET", "")
        if name != "all":
            link = document.get(f"coll-{name}")
            if not isinstance(link, str):
                raise self._no_engine(f"no coll-{name}")
            document = self.request("GET", self._below(link))
        if not isinstance(document.get("triggers"), list):
            raise self._no_engine("no triggers")
        return document

    def wait(
        self,
        url: str,
        report: Callable[[Document], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> Document:
        """Poll a trigger until it has settled, and return its status; errors as `create`."""
        interval_s = _POLL_FIRST_S
        while True:
            document = self.status(url)
            report(document)
            if document["status"] in SETTLED:
                return document
            sleep(interval_s)
            interval_s = min(interval_s * _POLL_GROWTH, _POLL_LAST_S)

    def _below(self, url: str) -> str:
        """Return where a URL of this CDN lies, from the collection's own path on.

        Raises:
            UsageError: it is another host's, which must not see the token.
        """
        whole, own = urlsplit(urljoin(f"{self.url}/", url)), urlsplit(self.url)
        if (whole.scheme, whole.netloc) != (own.scheme, own.netloc) or not whole.path.startswith(
            self._prefix
        ):
            raise UsageError(f"{url!r} is not below {self.url}, the collection that --to names")
        return whole.path.removeprefix(self._prefix)

    def _status(self, document: Document) -> Document:
        if not isinstance(document.get("status"), str) or not isinstance(document.get("trigger"), dict):
            raise self._no_engine("no status of a trigger")
        return document
