"""PatternMatch (RFC 8007, section 5.2.4) as targets of ours. Pure.

A pattern is compared with a whole URI: ``*`` is any sequence of pchar and ``/``, ``?`` one pchar, ``$`` takes
the meaning from ``$``, ``*`` and ``?``; without ``match-query-string`` the query is left off before, without
``case-sensitive`` letters count alike. The scheme never counts (section 4.8). What is made of it purges that,
and nothing else: a URL, a prefix or a host where it is one, and a regular expression otherwise.

Each literal between two ``*`` is taken where it comes first, and never looked for again: that finds a match
whenever there is one, in time that grows with the length of the path alone, and no client can have a cache
try for ever.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.errors import RequestError
from engine.intake.urls import normalise_authority

PATTERN_MAX_CHARS: Final = 4096
_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_SIGNS: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]"
_LONGEST: Final = f"{_SIGNS}*(?:%[0-9A-Fa-f]{{2}}{_SIGNS}*)*"
_SHORTEST: Final = f"{_SIGNS}*?(?:%[0-9A-Fa-f]{{2}}{_SIGNS}*?)*?"
"""Any sequence of pchar and ``/``; each in one way, so that nothing is tried twice."""
_QUERY_OR_END: Final = r"(?:\?|$)"
_SCHEMES: Final = frozenset({"http", "https", "http*", "*", "http?"})
_LETTERS: Final = re.compile("[A-Za-z]")
_TAKES: Final = "takes http(s)://HOST/PATH, with * and ? in the path"


class Star(NamedTuple):
    """``*``."""


class One(NamedTuple):
    """``?``."""


Piece = str | Star | One
STAR: Final = Star()
ONE: Final = One()


class Target(NamedTuple):
    """What a pattern is, as a target of a task."""

    kind: str
    target: str
    host: str


class UnsupportedPatternError(Exception):
    """A pattern that is good, and that no target of ours stands for."""


def target_of(pattern: str, where: str, *, is_cased: bool, has_query: bool) -> Target:
    """Return the target that takes exactly what a pattern does.

    Args:
        pattern: as the client wrote it.
        where: JSON path for the error.
        is_cased: ``case-sensitive``.
        has_query: ``match-query-string``.

    Raises:
        RequestError: 400, it is malformed.
        UnsupportedPatternError: it cannot be done; the text says why.
    """
    if len(pattern) > PATTERN_MAX_CHARS:
        raise _refuse(where, f"is {len(pattern)} characters long, at most {PATTERN_MAX_CHARS}")
    scheme, separator, rest = pattern.partition("://")
    if not separator:
        raise _refuse(where, f"is compared with whole URLs: {_TAKES}")
    if scheme.lower() not in _SCHEMES:
        raise _refuse(where, f"scheme {scheme[:40]!r} is not http or https")
    authority, slash, path = rest.partition("/")
    if any(sign in authority for sign in "*?$"):
        raise UnsupportedPatternError(
            "a wildcard in the host would take hosts of others along; it takes one host, a pattern for each"
        )
    if not slash:
        raise _refuse(where, f"has no path: {_TAKES}")
    host = _host_of(scheme.lower(), authority, where)
    pieces = _pieces(path, where)
    if not has_query and any("?" in piece for piece in pieces if isinstance(piece, str)):
        raise UnsupportedPatternError(
            "it has '$?', and no URL does when its query is left off; it takes match-query-string true"
        )
    return _target(pieces, host, is_cased=is_cased, has_query=has_query)


def _target(pieces: list[Piece], host: str, *, is_cased: bool, has_query: bool) -> Target:
    # As the target of an https URL its port 80 stays: it is none of the host without one.
    base = f"{'https' if host.endswith(':80') else 'http'}://{host}/"
    has_letters = any(_LETTERS.search(piece) for piece in pieces if isinstance(piece, str))
    is_plain = is_cased or not has_letters
    if is_plain and has_query and not any(isinstance(piece, (Star, One)) for piece in pieces):
        return Target("url", f"{base}{''.join(map(str, pieces))}", host)
    ends_open = not has_query and bool(pieces) and pieces[-1] is STAR
    if ends_open and is_plain:  # of a path that begins so, and of its query, all goes
        if len(pieces) == 1:
            return Target("prefix", base, host) if host.endswith(":80") else Target("host", host, host)
        if len(pieces) == 2 and isinstance(pieces[0], str) and not pieces[0].endswith("*"):  # noqa: PLR2004
            return Target("prefix", f"{base}{pieces[0]}", host)
    text = _expression(pieces[:-1] if ends_open else pieces, ends_open=ends_open)
    end = "" if ends_open else "$" if has_query else _QUERY_OR_END
    expression = f"{text}{end}" if is_plain else f"(?i:{text}{end})"
    return Target("regex", f"{base}{expression}", host)


def _expression(pieces: list[Piece], *, ends_open: bool) -> str:
    """Return the regular expression of pieces; what stands behind the last star is looked for at the end."""
    made = ""
    last_star = max((place for place, piece in enumerate(pieces) if piece is STAR), default=-1)
    place = 0
    while place < len(pieces):
        if pieces[place] is not STAR:
            made += _literal(pieces[place])
            place += 1
            continue
        end = place + 1
        while end < len(pieces) and pieces[end] is not STAR:
            end += 1
        chunk = "".join(map(_literal, pieces[place + 1 : end]))
        if place == last_star and not ends_open:
            made += f"{_LONGEST}{chunk}"
        elif chunk:
            made += f"(?>{_SHORTEST}{chunk})"
        place = end
    return made


def _literal(piece: Piece) -> str:
    return _PCHAR if isinstance(piece, One) else re.escape(str(piece))


def _pieces(path: str, where: str) -> list[Piece]:
    """Return a path in pieces; of several stars in a row the first."""
    found: list[Piece] = []
    text = ""
    at = 0
    while at < len(path):
        sign = path[at]
        at += 1
        if sign == "$":
            if path[at : at + 1] not in {"$", "*", "?"}:
                raise _refuse(where, "has a '$' that is neither '$$', '$*' nor '$?'")
            text += path[at]
            at += 1
        elif sign in "*?":
            found += [text] if text else []
            text = ""
            piece = STAR if sign == "*" else ONE
            if piece is ONE or not found or found[-1] is not STAR:
                found.append(piece)
        elif "!" <= sign <= "~" and sign not in '"<>\\^`{|}#':
            text += sign
        else:
            raise _refuse(where, f"has {sign!r}, which no URL has; it must be percent-encoded")
    return [*found, text] if text else found


def _host_of(scheme: str, authority: str, where: str) -> str:
    """Return a host as URLs have it: without the port that is the default of a scheme that is taken."""
    one = scheme if scheme in {"http", "https"} else "https" if authority.endswith(":443") else "http"
    try:
        return normalise_authority(authority, where, scheme=one)
    except RequestError as exc:
        raise RequestError(400, exc.short, field=where) from exc


def _refuse(where: str, why: str) -> RequestError:
    return RequestError(400, f"{where}: {why}", field=where)
