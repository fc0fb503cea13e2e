"""The query of a request: what a route takes there is a structure, and what does not fit it is 422.

A parameter that may be left out is `msgspec.UNSET` then, not None: ``since=null`` is no time.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin

import msgspec

from engine.config.hints import did_you_mean
from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multidict import MultiMapping

_SHOWN: Final = 64
_YEAR_MAX_S: Final = 253_402_300_799  #: the last second of the year 9999

Time: TypeAlias = (
    Annotated[float, msgspec.Meta(ge=0, le=_YEAR_MAX_S)] | Annotated[datetime, msgspec.Meta(tz=True)]
)
"""A time in a query: UNIX seconds, or as in RFC 3339; see `seconds`."""


class NoQuery(msgspec.Struct):
    """Of a route that takes no parameters."""


def seconds(time: float | datetime) -> float:
    """Return a `Time` as UNIX seconds."""
    return time.timestamp() if isinstance(time, datetime) else time


class QueryReader:
    """Reads the queries of one route.

    Args:
        kind: a structure with a field for each parameter.
    """

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self._kind = kind
        self._known = kind.__struct_fields__  # what each takes is asked for when it is refused: see `_takes`

    def read(self, query: MultiMapping[str]) -> Any:
        """Return the structure.

        Raises:
            RequestError: 422, a parameter is unknown, given twice, or cannot be read.
        """
        known = self._known
        for name in query:
            if name not in known:
                shown = name[:_SHOWN]
                detail = f"query: unknown parameter {shown!r}; this route takes {', '.join(known) or 'none'}"
                raise RequestError(422, detail, field=shown, hint=partial(did_you_mean, shown, known))
        if len(query) > len(set(query)):
            name = next(name for name in known if len(query.getall(name, ())) > 1)
            raise RequestError(422, f"{name}: is given more than once", field=name)
        try:
            return msgspec.convert(dict(query), self._kind, strict=False)
        except msgspec.ValidationError as exc:
            raise self._refusal(str(exc), query) from None

    def _refusal(self, problem: str, query: MultiMapping[str]) -> RequestError:
        """Say what a parameter takes, where msgspec says only what is wrong with it."""
        what, _, path = problem.partition(" - at `$.")
        name = path.rstrip("`")
        if name not in query:  # one that must be given is not
            name = what.split("`")[1]
            return RequestError(422, f"{name}: is missing; it takes {self._takes(name)}", field=name)
        detail = f"{name}: takes {self._takes(name)}, not {query[name][:_SHOWN]!r}"
        return RequestError(422, detail, field=name)

    def _takes(self, name: str) -> str:
        """Return in words what a parameter takes; to read the types of all routes is a tenth of a start."""
        return next(takes(field.type) for field in msgspec.structs.fields(self._kind) if field.name == name)


def takes(kind: Any) -> str:
    """Return in words what a field of type *kind* takes."""
    return ", or ".join(dict.fromkeys(_words(kind, {})))


def _words(kind: Any, bounds: dict[str, Any]) -> Iterator[str]:
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *notes = get_args(kind)
        for note in notes:
            if isinstance(note, msgspec.Meta):
                bounds = bounds | {
                    key: value for key in ("ge", "le") if (value := getattr(note, key)) is not None
                }
        yield from _words(inner, bounds)
    elif origin is Literal:
        yield ", ".join(map(str, get_args(kind)))
    elif origin is not None:  # a union
        for part in get_args(kind):
            yield from _words(part, bounds)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield ", ".join(str(word.value) for word in kind)
    elif kind is float and bounds.get("le") == _YEAR_MAX_S:
        yield "UNIX seconds"
    elif kind in {int, float}:
        number = "a whole number" if kind is int else "a number"
        yield f"{number} from {bounds['ge']} to {bounds['le']}" if len(bounds) == 2 else number  # noqa: PLR2004
    elif kind in _NAMED:
        yield _NAMED[kind]


_NAMED: Final = {
    str: "text",
    bool: "true or false",
    datetime: "a time with its zone, such as 2026-11-29T10:00:00Z",
}
