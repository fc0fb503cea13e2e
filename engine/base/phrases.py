"""Reason phrases of HTTP's status lines, the same on every Python."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

#: Python 3.13 took RFC 9110's names for these. An answer does not change with the interpreter: engines of one
#: cluster, and those that a recording is replayed at, are compared by their answers.
_KEPT: Final = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}


def phrase_of(status: int) -> str:
    """Return the usual phrase of a status; empty, which HTTP allows, for one that is not registered."""
    if status in _KEPT:
        return _KEPT[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
