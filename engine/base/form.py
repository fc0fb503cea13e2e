"""The form that the hot modules run in: compiled by mypyc, or interpreted."""

from __future__ import annotations

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from typing import Final


_ONE_OF_THEM: Final = "engine.base.timer"  #: they are compiled together or not at all


def is_compiled() -> bool:
    """Tell whether this process runs the hot modules as machine code."""
    from importlib.util import find_spec  # noqa: PLC0415 - most commands do without

    spec = find_spec(_ONE_OF_THEM)
    return spec is not None and not str(spec.origin).endswith(".py")


def form() -> str:
    """Return ``compiled`` or ``interpreted``."""
    return "compiled" if is_compiled() else "interpreted"
