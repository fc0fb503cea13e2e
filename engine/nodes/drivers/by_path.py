"""The text of requests that name a target by its path: nearly all that is sent, so it is made in one step."""

from __future__ import annotations


class PathRequester:
    """Makes ``METHOD path`` requests with the target's host in ``Host``.

    Neighbours are of one host, nearly always: what is the same of them is worked out once.

    Args:
        start: of the request, up to the path without its slash.
        rest: of the request, behind the host.
    """

    def __init__(self, start: str, rest: str) -> None:
        self._start = start
        self._rest = rest
        self._site = "\n"  # what the last target began with, up to its path; at first what none begins with
        self._site_chars = 0
        self._end = ""  # of the requests for that site

    def __call__(self, target: str) -> str:
        """Return the text of a target's request."""
        if not target.startswith(self._site):
            _, _, host, path = target.split("/", 3)
            self._site_chars = len(target) - len(path)
            self._site = target[: self._site_chars]
            self._end = f" HTTP/1.1\r\nHost: {host}{self._rest}"
        return f"{self._start}{target[self._site_chars :]}{self._end}"

    def texts(self, targets: list[str]) -> str:
        """Return the texts of several requests, one after the other."""
        start, site, chars, end = self._start, self._site, self._site_chars, self._end
        parts: list[str] = []
        for target in targets:
            if target.startswith(site):
                parts.append(f"{start}{target[chars:]}{end}")
            else:
                parts.append(self(target))
                site, chars, end = self._site, self._site_chars, self._end
        return "".join(parts)
