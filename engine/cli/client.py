"""What the command line asks of an engine: documents as they come, and text.

It stands on `engine.client.http`. Engines that do not answer are not asked again, unless a connection ends
early: a user waits. One that is busy is, a few times.
"""

from __future__ import annotations

import json
import math
import time

from engine.cli.values import TIMEOUT_S
from engine.client import operations
from engine.client.address import addresses_of, check_token
from engine.client.attempts import Answer, Call, Patience
from engine.client.connection import Timeouts
from engine.client.http import ACCEPT, HttpClient
from engine.client.operations import PAGE_MAX, no_engine, object_of, quoted, rows_of, task_of, task_path
from engine.client.operations import query as query_of

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from engine.client.bodies import Document

RETRIES_MAX = 100  #: tasks that are retried by one request
BUSY_ATTEMPTS_MAX = 4  #: of a request answered 503 or 429

ONCE = Patience(math.inf, rounds=1, busy_rounds=1)  #: one attempt at each engine

_DRY_RUN = "?dry_run=1"
_ALL: Mapping[str, Any] = {}


class EngineClient(HttpClient):
    """A connection to each of the engines that a command names.

    Args:
        url: their addresses, ``http(s)://HOST[:PORT][/PREFIX]``; several: between commas, in the order that
            they are tried.
        token: bearer token; empty sends none.
        timeout_s: seconds for one connect, and for each wait for bytes of an answer.
        busy_attempts: how often a request that is answered 503 or 429 is sent in all.
        notice: is told about each wait for a busy engine.
        sleep: waits; for tests.
        tls: for https; None: as the system has it.
        accept: media types of answers.

    Raises:
        ValueError: *url* or *token* cannot be used; the text says why.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        token: str = "",
        timeout_s: float = TIMEOUT_S,
        busy_attempts: int = BUSY_ATTEMPTS_MAX,
        notice: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
        tls: ssl.SSLContext | None = None,
        accept: str = ACCEPT,
    ) -> None:
        check_token(token)
        self.timeout_s = timeout_s
        super().__init__(
            addresses_of(url),
            token=token,
            timeouts=Timeouts(timeout_s, timeout_s),
            patience=Patience(math.inf, rounds=1, busy_rounds=busy_attempts),
            tls=tls,
            accept=accept,
            notice=notice,
            sleep=sleep,
            draw=float,  # no jitter: a user is told how long it takes
        )

    def submit(self, body: bytes) -> Document:
        """Hand in a task, which must carry an id, and return the engine's answer."""
        return self.run(operations.submit(body))

    def preview(self, body: bytes) -> Document:
        """Return what a task would do; nothing is stored or sent."""
        return self.with_rows("nodes", "POST", f"/v1/engine/task{_DRY_RUN}", body)

    def task(self, task_id: str, *, leaves: bool = False) -> Document:
        """Return a task's document; with *leaves* what those below engines did."""
        return self.run(operations.task(task_id, leaves=leaves))

    def look(self, task_id: str) -> Document:
        """As `task`, without another attempt: who waits for the task asks again anyway."""
        return self.run(operations.task(task_id), ONCE)

    def receipt(self, task_id: str) -> str:
        """Return a settled task's receipt."""
        answer = self.answer(Call("GET", f"{task_path(task_id)}/receipt"))
        signed = answer.content.decode("utf-8", "replace")
        if signed.count(".") != 2:  # noqa: PLR2004 - a JWS in compact form has three parts
            raise no_engine(answer, "no receipt")
        return signed

    def keys(self) -> Document:
        """Return the public keys of receipts."""
        return self.with_rows("keys", "GET", "/v1/engine/keys")

    def cancel(self, task_id: str) -> Document:
        """Cancel what has no answer of a task, and return the engine's answer."""
        return self.run(operations.cancel(task_id))

    def tasks(self, query: Mapping[str, Any] = _ALL, *, limit: int = 50) -> Document:
        """Return up to *limit* tasks that *query* asks for, over as many pages as that takes."""
        listed: list[Document] = []
        missing: set[int] = set()
        incomplete = ""
        query = dict(query)
        while True:
            query["limit"] = min(limit - len(listed), PAGE_MAX)
            answer = self.answer(Call("GET", f"/v1/engine/tasks?{query_of(query)}"))
            page = object_of(answer)
            tasks = rows_of(answer, page, "tasks")
            listed += tasks
            missing.update(page.get("missing_regions", ()))
            incomplete = incomplete or str(page.get("incomplete") or "")
            query["cursor"] = page.get("cursor")
            if not query["cursor"] or len(listed) >= limit:  # a page may be empty, and others follow
                found = {"tasks": listed, "cursor": query["cursor"]}
                found |= {"missing_regions": sorted(missing)} if missing else {}
                return found | {"incomplete": incomplete} if incomplete else found

    def retry(self, task_id: str, *, dry_run: bool = False) -> Document:
        """Send what failed of a task again, and return the answer; with *dry_run* say what would be sent."""
        if dry_run:
            return self.with_rows("left_out", "POST", f"{task_path(task_id)}/retry{_DRY_RUN}")
        return task_of(self.answer(Call("POST", f"{task_path(task_id)}/retry")))

    def retries(self, asked: Mapping[str, Any], *, limit: int, dry_run: bool = False) -> Document:
        """Send again what failed of up to *limit* tasks that are asked for, and return what came of all.

        With *dry_run* nothing is sent, and what is returned is what would be.
        """
        path = f"/v1/engine/retries{_DRY_RUN if dry_run else ''}"
        found: Document = {"retried": 0, "tasks": [], "not_retried": [], "cursor": ""}
        left = limit
        while True:
            body = {**asked, "limit": min(left, RETRIES_MAX), "cursor": found["cursor"]}
            answer = self.answer(Call("POST", path, json.dumps(body).encode()))
            page = object_of(answer)
            found["tasks"] += rows_of(answer, page, "tasks")
            found["not_retried"] += rows_of(answer, page, "not_retried")
            found["retried"] = len(found["tasks"])
            found["cursor"] = page.get("cursor")
            if "incomplete" in page:
                found["incomplete"] = page["incomplete"]
            left -= body["limit"]
            if not found["cursor"] or left <= 0:
                return found

    def rewind(self, asked: Mapping[str, Any]) -> Document:
        """Send what was purged between two times to a node once more, and return the engine's answer."""
        return _rewind_of(self.answer(Call("POST", "/v1/engine/rewind", json.dumps(asked).encode())))

    def stop_rewind(self, node: str) -> Document:
        """Cancel what the rewind of a node has not sent, and return the engine's answer."""
        return _rewind_of(self.answer(Call("DELETE", f"/v1/engine/rewind?{query_of({'node': node})}")))

    def history(self, query: Mapping[str, Any], *, limit: int) -> Document:
        """Return up to *limit* tasks that *query* asks the history for, over as many pages as that takes."""
        return self.run(operations.history(query, limit=limit))

    def why(self, url: str) -> Document:
        """Return what every node serves of a URL, and why."""
        return self.run(operations.why(url))

    def nodes(self, *, leaves: bool = False) -> Document:
        """Return every node with its state and counters; with *leaves* those below engines one by one."""
        return self.with_rows("nodes", "GET", f"/v1/engine/nodes{'?leaves=1' if leaves else ''}")

    def forget(self, node: str) -> Document:
        """Fail what waits for a node that is not configured any more; say how many subtasks that was."""
        return self.request("DELETE", f"/v1/engine/nodes/{quoted(node)}")

    def pause(self, node: str) -> Document:
        """Have what is for a node wait; say by whom it was paused first, and since when."""
        return self.request("POST", f"/v1/engine/nodes/{quoted(node)}/pause")

    def resume(self, node: str) -> Document:
        """Deliver what waits for a node that was paused."""
        return self.request("POST", f"/v1/engine/nodes/{quoted(node)}/resume")

    def silence(self, asked: Mapping[str, Any]) -> Document:
        """Have alerts that match not sent for a time, and return the silence."""
        return self.request("POST", "/v1/engine/silences", json.dumps(asked).encode())

    def silences(self) -> Document:
        """Return the silences of alerts."""
        return self.with_rows("silences", "GET", "/v1/engine/silences")

    def unsilence(self, silence: str) -> Document:
        """End a silence, and return it."""
        return self.request("DELETE", f"/v1/engine/silences/{quoted(silence)}")

    def cluster(self) -> Document:
        """Return the engines of one Redis, who leads, and how much each has."""
        return self.with_rows("engines", "GET", "/v1/engine/cluster")

    def stats(self) -> Document:
        """Return the statistics document."""
        return self.request("GET", "/v1/engine/stats")

    def version(self) -> Document:
        """Return the engine's version document."""
        return self.request("GET", "/v1/engine/version")

    def request(self, method: str, path: str, body: bytes | None = None) -> Document:
        """Send one request and return the JSON object it is answered with; errors as `answer`."""
        return object_of(self.answer(Call(method, path, body)))

    def with_rows(self, key: str, method: str, path: str, body: bytes | None = None) -> Document:
        """As `request`, for a document that has a list under *key*."""
        answer = self.answer(Call(method, path, body))
        document = object_of(answer)
        rows_of(answer, document, key)
        return document


def _rewind_of(answer: Answer) -> Document:
    document = object_of(answer)
    if not isinstance(document.get("rewind"), str):
        raise no_engine(answer, "no rewind")
    return document
