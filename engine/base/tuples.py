"""`NamedTuple` as `typing` has it, for the modules that a command line starts with.

To import `typing` takes an eighth of what a short command takes. For type checkers this is typing's; at run
time it does the same with `collections.namedtuple`, which every start has anyway.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # that of typing is the import that is to be saved
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - for export
else:

    class _Maker(type):
        """Makes a tuple class of a class statement: its annotations are the fields."""

        def __new__(cls, name: str, _bases: tuple[type, ...], members: dict[str, object]) -> type:
            fields = members.get("__annotations__", {})
            defaults = [members.pop(field) for field in fields if field in members]
            made = namedtuple(name, fields, defaults=defaults, module=members["__module__"])  # noqa: PYI024
            for key, value in members.items():
                if key not in {"__module__", "__qualname__"}:
                    setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
