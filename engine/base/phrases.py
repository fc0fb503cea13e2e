"""Reason phrases of HTTP's status lines."""

from __future__ import annotations

from http import HTTPStatus


def phrase_of(status: int) -> str:
    """Return the usual phrase of a status; empty, which HTTP allows, for one that is not registered."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
