"""The client of another CDN's triggers (RFC 8007), which may be another Purgeline's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from engine.cli.away import FACTOR, Away
from engine.cli.client import ONCE, EngineClient
from engine.cli.exits import UsageError
from engine.client.attempts import Answer, Call
from engine.client.bodies import encode
from engine.client.errors import RefusedError, UnreachableError
from engine.client.operations import no_engine, object_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.client.bodies import Document

SETTLED = frozenset({"complete", "processed", "failed", "cancelled", "canceled"})
GOOD = frozenset({"complete", "processed"})
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 2.0
_POLL_GROWTH = 1.5
_ACCEPTED = 202
_COMMAND = "application/cdni; ptype=ci-trigger-command"


class CdniClient(EngineClient):
    """One connection to the collection of all triggers of a downstream CDN.

    Args:
        url: of that collection.
        options: see `EngineClient`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__([url], accept="application/cdni, application/problem+json;q=0.5", **options)
        self._prefix = self.engines.addresses[0].prefix

    def create(self, trigger: Document, path: Sequence[str]) -> tuple[str, Document]:
        """Create a trigger; return its URL, and its status.

        Raises:
            UnreachableError: nothing usable came back.
            RefusedError: the CDN refuses it.
        """
        body = encode({"trigger": trigger, "cdn-path": list(path)})
        answer = self.answer(Call("POST", "", body, _COMMAND))
        location = answer.headers.get("location")
        if not location:
            raise no_engine(answer, "no Location")
        return urljoin(self.url, location), _status_of(answer)

    def status(self, url: str) -> Document:
        """Return a trigger's status; errors as `create`."""
        return _status_of(self.answer(Call("GET", self._below(url))))

    def cancel_all(self, urls: Sequence[str], path: Sequence[str]) -> bool:
        """Cancel triggers; tell whether all have ended by now; errors as `create`."""
        body = encode({"cancel": [urljoin(f"{self.url}/", url) for url in urls], "cdn-path": list(path)})
        return self.answer(Call("POST", "", body, _COMMAND)).status != _ACCEPTED

    def delete(self, url: str) -> None:
        """Delete a trigger; errors as `create`."""
        self.answer(Call("DELETE", self._below(url)))

    def collection(self, name: str = "all") -> Document:
        """Return a collection, by its name; errors as `create`."""
        answer = self.answer(Call("GET", ""))
        document = object_of(answer)
        if name != "all":
            link = document.get(f"coll-{name}")
            if not isinstance(link, str):
                raise no_engine(answer, f"no coll-{name}")
            answer = self.answer(Call("GET", self._below(link)))
            document = object_of(answer)
        if not isinstance(document.get("triggers"), list):
            raise no_engine(answer, "no triggers")
        return document

    def wait(
        self,
        url: str,
        report: Callable[[Document], None],
        say: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Document:
        """Poll a trigger that was created until it has settled, and return its status; errors as `create`.

        Args:
            url: of the trigger.
            report: is given its status after each look.
            say: is given a line when the CDN does not answer, and when it answers again.
            sleep: waits; for tests.
        """
        interval_s = _POLL_FIRST_S
        away = Away(say, FACTOR * self.timeout_s)
        away.answered()
        while True:
            try:
                document = _status_of(self.answer(Call("GET", self._below(url)), ONCE))
            except (UnreachableError, RefusedError) as exc:
                away.lost(exc)
            else:
                away.answered()
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


def _status_of(answer: Answer) -> Document:
    document = object_of(answer)
    if not isinstance(document.get("status"), str) or not isinstance(document.get("trigger"), dict):
        raise no_engine(answer, "no status of a trigger")
    return document
