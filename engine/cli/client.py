"""Synchronous HTTP client of the engine, for the command line.

Every request is safe to repeat: reads and cancels are, and a task carries an id chosen on this
side, for which the engine answers the task it already has. So a connection that ends early costs
one more attempt on a new one, and 503 and 429 are repeated after their ``Retry-After``, a few
times.

It is built on `http.client` rather than aiohttp: a command makes one request after the other, and
most of what a user waits for is the start of Python.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode, urlsplit

from engine.cli.client_errors import EngineUnreachableError, problem_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from email.message import Message

    from engine.cli.documents import Document

URL_DEFAULT = "http://127.0.0.1:9181"
TIMEOUT_S = 10.0
PAGE_MAX = 1000  #: tasks asked for at once
RETRIES_MAX = 100  #: tasks that are retried by one request
ATTEMPTS_MAX = 2  #: of a request whose connection ends early
BUSY_ATTEMPTS_MAX = 4  #: of a request answered 503 or 429
RETRY_AFTER_DEFAULT_S = 1.0
RETRY_AFTER_MAX_S = 30.0  #: an engine that asks for more is not waited for

_ALL: Mapping[str, Any] = {}
_SAFE_TO_REPEAT = (http.client.IncompleteRead, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class EngineClient:
    """One keep-alive connection to an engine; opened by the first request.

    Args:
        url: address of the engine, ``http(s)://HOST[:PORT][/PREFIX]``.
        token: bearer token; empty sends none.
        timeout_s: seconds for one connect, and for each wait for bytes of an answer.
        busy_attempts: how often a request that is answered 503 or 429 is sent in all.
        notice: is told about each wait for a busy engine.
        sleep: waits; for tests.
        tls: for https; None: as the system has it.

    Raises:
        ValueError: *url* or *token* cannot be used; the text says why.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        timeout_s: float = TIMEOUT_S,
        busy_attempts: int = BUSY_ATTEMPTS_MAX,
        notice: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._connection, self._prefix = _connection_to(url, timeout_s, tls)
        self._headers = {"Accept": "application/json"}
        if token:
            if not (token.isascii() and token.isprintable()) or " " in token:
                raise ValueError("the token may hold printable ASCII without spaces only")
            self._headers["Authorization"] = f"Bearer {token}"
        self._busy_attempts = busy_attempts
        self._notice = notice
        self._sleep = sleep

    content_type = "application/json"  #: of what it sends

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def submit(self, body: bytes) -> Document:
        """Hand in a task, which must carry an id, and return the engine's answer."""
        return self._task_document(self.request("POST", "/v1/engine/task", body))

    def preview(self, body: bytes) -> Document:
        """Return what a task would do; nothing is stored or sent."""
        document = self.request("POST", "/v1/engine/task?dry_run=1", body)
        self.rows(document, "nodes")
        return document

    def task(self, task_id: str) -> Document:
        """Return a task's document."""
        return self._task_document(self.request("GET", _task_path(task_id)))

    def receipt(self, task_id: str) -> str:
        """Return a settled task's receipt."""
        signed = self.text("GET", f"{_task_path(task_id)}/receipt")
        if signed.count(".") != 2:  # noqa: PLR2004 - a JWS in compact form has three parts
            raise self._no_engine("no receipt")
        return signed

    def keys(self) -> Document:
        """Return the public keys of receipts."""
        document = self.request("GET", "/v1/engine/keys")
        self.rows(document, "keys")
        return document

    def cancel(self, task_id: str) -> Document:
        """Cancel what has no answer of a task, and return the engine's answer."""
        return self.request("DELETE", _task_path(task_id))

    def tasks(self, query: Mapping[str, Any] = _ALL, *, limit: int = 50) -> Document:
        """Return up to *limit* tasks that *query* asks for, over as many pages as that takes."""
        listed: list[Document] = []
        missing: set[int] = set()
        incomplete = ""
        query = dict(query)
        while True:
            query["limit"] = min(limit - len(listed), PAGE_MAX)
            page = self.request("GET", f"/v1/engine/tasks?{urlencode(query)}")
            tasks = self.rows(page, "tasks")
            listed += tasks
            missing.update(page.get("missing_regions", ()))
            incomplete = incomplete or str(page.get("incomplete") or "")
            query["cursor"] = page.get("cursor")
            if not query["cursor"] or len(listed) >= limit:  # a page may be empty, and others follow
                found = {"tasks": listed, "cursor": query["cursor"]}
                found |= {"missing_regions": sorted(missing)} if missing else {}
                return found | {"incomplete": incomplete} if incomplete else found

    def retry(self, task_id: str) -> Document:
        """Send what failed of a task again, and return the engine's answer."""
        return self._task_document(self.request("POST", f"{_task_path(task_id)}/retry"))

    def retries(self, asked: Mapping[str, Any], *, limit: int) -> Document:
        """Send again what failed of up to *limit* tasks that are asked for, and return what came of all."""
        found: Document = {"retried": 0, "tasks": [], "not_retried": [], "cursor": ""}
        left = limit
        while True:
            body = {**asked, "limit": min(left, RETRIES_MAX), "cursor": found["cursor"]}
            page = self.request("POST", "/v1/engine/retries", json.dumps(body).encode())
            found["tasks"] += self.rows(page, "tasks")
            found["not_retried"] += self.rows(page, "not_retried")
            found["retried"] = len(found["tasks"])
            found["cursor"] = page.get("cursor")
            if "incomplete" in page:
                found["incomplete"] = page["incomplete"]
            left -= body["limit"]
            if not found["cursor"] or left <= 0:
                return found

    def rewind(self, asked: Mapping[str, Any]) -> Document:
        """Send what was purged between two times to a node once more, and return the engine's answer."""
        document = self.request("POST", "/v1/engine/rewind", json.dumps(asked).encode())
        if not isinstance(document.get("rewind"), str):
            raise self._no_engine("no rewind")
        return document

    def stop_rewind(self, node: str) -> Document:
        """Cancel what the rewind of a node has not sent, and return the engine's answer."""
        document = self.request("DELETE", f"/v1/engine/rewind?{urlencode({'node': node})}")
        if not isinstance(document.get("rewind"), str):
            raise self._no_engine("no rewind")
        return document

    def history(self, query: Mapping[str, Any], *, limit: int) -> Document:
        """Return up to *limit* tasks that *query* asks the history for, over as many pages as that takes."""
        listed: list[Document] = []
        incomplete = ""
        asked = dict(query)
        while True:
            asked["limit"] = min(limit - len(listed), PAGE_MAX)
            page = self.request("GET", f"/v1/engine/history?{urlencode(asked)}")
            listed += self.rows(page, "tasks")
            incomplete = incomplete or str(page.get("incomplete") or "")
            asked["cursor"] = page.get("cursor")
            if not asked["cursor"] or len(listed) >= limit:  # a page may be empty, and others follow
                found = {
                    "tasks": listed,
                    "cursor": asked["cursor"],
                    "complete_since": page.get("complete_since"),
                }
                return found | {"incomplete": incomplete} if incomplete else found

    def why(self, url: str) -> Document:
        """Return what every node serves of a URL, and why."""
        document = self.request("GET", f"/v1/engine/why?{urlencode({'url': url})}")
        self.rows(document, "nodes")
        return document

    def nodes(self) -> Document:
        """Return every node with its state and counters."""
        document = self.request("GET", "/v1/engine/nodes")
        self.rows(document, "nodes")
        return document

    def forget(self, node: str) -> Document:
        """Fail what waits for a node that is not configured any more; say how many subtasks that was."""
        return self.request("DELETE", f"/v1/engine/nodes/{quote(node, safe='')}")

    def pause(self, node: str) -> Document:
        """Have what is for a node wait; say by whom it was paused first, and since when."""
        return self.request("POST", f"/v1/engine/nodes/{quote(node, safe='')}/pause")

    def resume(self, node: str) -> Document:
        """Deliver what waits for a node that was paused."""
        return self.request("POST", f"/v1/engine/nodes/{quote(node, safe='')}/resume")

    def cluster(self) -> Document:
        """Return the engines of one Redis, who leads, and how much each has."""
        document = self.request("GET", "/v1/engine/cluster")
        self.rows(document, "engines")
        return document

    def stats(self) -> Document:
        """Return the statistics document."""
        return self.request("GET", "/v1/engine/stats")

    def version(self) -> Document:
        """Return the engine's version document."""
        return self.request("GET", "/v1/engine/version")

    def request(self, method: str, path: str, body: bytes | None = None) -> Document:
        """Send one request and return the JSON object it is answered with.

        Raises:
            EngineUnreachableError: nothing usable came back.
            ProblemError: the answer is not a success; for 503 and 429, still after the retries.
        """
        return self._object(self._successful(method, path, body)[2])

    def text(self, method: str, path: str) -> str:
        """Send one request and return the text it is answered with; errors as `request`."""
        return self._successful(method, path, None)[2].decode("utf-8", "replace")

    def _successful(self, method: str, path: str, body: bytes | None) -> tuple[int, Message, bytes]:
        attempt = 1
        while True:
            status, headers, content = self._exchange(method, path, body)
            if 200 <= status < 300:  # noqa: PLR2004 - HTTP's successes
                return status, headers, content
            problem = problem_of(status, headers, content)
            wait_s = RETRY_AFTER_DEFAULT_S if problem.retry_after_s is None else problem.retry_after_s
            if not problem.is_busy or attempt >= self._busy_attempts or wait_s > RETRY_AFTER_MAX_S:
                raise problem
            attempt += 1
            self._notice(f"{problem}; attempt {attempt} of {self._busy_attempts} in {wait_s:g} s")
            self._sleep(wait_s)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, Message, bytes]:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            self._connect()
            try:
                return self._attempt(method, path, body)
            except (http.client.HTTPException, OSError) as exc:
                self._connection.close()
                if attempt == ATTEMPTS_MAX or not isinstance(exc, _SAFE_TO_REPEAT):
                    raise EngineUnreachableError(self.url, self._explain(exc), sent=True) from exc
        raise AssertionError("the last attempt returns or raises")

    def _connect(self) -> None:
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except (OSError, UnicodeError) as exc:
            self._connection.close()
            raise EngineUnreachableError(self.url, self._explain(exc), sent=False) from exc

    def _attempt(self, method: str, path: str, body: bytes | None) -> tuple[int, Message, bytes]:
        headers = self._headers if body is None else {**self._headers, "Content-Type": self.content_type}
        # An engine may answer, such as 413, before it read everything; when it did not, the next line raises.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(method, self._prefix + path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def _explain(self, exc: Exception) -> str:
        match exc:
            case TimeoutError():
                return f"no answer within {self.timeout_s:g} s"
            case http.client.IncompleteRead() | http.client.RemoteDisconnected() | ConnectionResetError():
                return "the connection closed before the whole answer came"
            case http.client.HTTPException():
                return "what answers there does not speak HTTP"
            case OSError(strerror=str(reason)):
                return reason
            case _:
                return str(exc) or type(exc).__name__

    def _object(self, content: bytes) -> Document:
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._no_engine("no JSON object")
        return document

    def _task_document(self, document: Document) -> Document:
        if not (isinstance(document.get("task_id"), str) and isinstance(document.get("state"), str)):
            raise self._no_engine("no task")
        return document

    def rows(self, document: Document, key: str) -> list[Document]:
        """Return the list of objects that *document* holds under *key*.

        Raises:
            EngineUnreachableError: there is none.
        """
        rows = document.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._no_engine(f"no list of {key}")
        return rows

    def _no_engine(self, what: str) -> EngineUnreachableError:
        reason = f"the answer holds {what}; is this a Purgeline engine?"
        return EngineUnreachableError(self.url, reason, sent=True)


def _task_path(task_id: str) -> str:
    return f"/v1/engine/task/{quote(task_id, safe='')}"


def _connection_to(
    url: str, timeout_s: float, tls: ssl.SSLContext | None
) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    port = parts.port  # raises ValueError when it is none
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not http(s)://HOST[:PORT]")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: scheme, host, port and path only; the token has its own option")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"{url!r} has characters that a URL cannot have")
    host, path = parts.hostname, parts.path.rstrip("/")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=tls), path
    return http.client.HTTPConnection(host, port, timeout=timeout_s), path
