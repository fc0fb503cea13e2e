"""The templates of what caches need to be purged, and their rendering.

They lie in ``templates/`` at the top of the tree, and inside the package where it is installed from a wheel.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@cache
def folder() -> Path:
    """Return the folder of the templates."""
    package = Path(str(files("engine")))
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def render(name: str, **values: Any) -> str:
    """Return the text of a template.

    Args:
        name: file below the folder.
        values: what the template's first lines say that it needs.

    Raises:
        UndefinedError: a value is missing; names it.
    """
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(folder()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, no HTML
    )
