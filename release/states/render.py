"""Renders the shared templates on the controller, the same way as Salt does on a host.

Each template under ``templates/`` says in its first lines what it needs. A value that is missing stops the
rendering: a file with a hole in it would be noticed on the host, by whoever reads it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound

from release.errors import SettingsError
from release.settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TEMPLATES = ROOT / "templates"


def render(name: str, values: Mapping[str, Any], *, folder: Path = TEMPLATES) -> str:
    """Return the text of a template.

    Args:
        name: file below *folder*.
        values: what the template's first lines say that it needs.
        folder: of the templates.

    Raises:
        SettingsError: no such template, or a value that is missing or of the wrong kind; names both.
    """
    try:
        return _environment(folder).get_template(name).render(values)
    except TemplateNotFound as exc:
        raise SettingsError(f"{folder / name}: no such template") from exc
    except (TemplateError, TypeError, ValueError) as exc:
        raise SettingsError(f"{name}: cannot be rendered: {exc}") from exc


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, no HTML
    )
    # `tojson` would say of a missing value that its class is not serializable, and not which value it is.
    # Salt does not sort keys either.
    environment.policies["json.dumps_kwargs"] = {"default": _refuse}
    return environment


def _refuse(value: object) -> object:
    """Refuse a value that JSON cannot hold, and name an undefined one.

    Raises:
        UndefinedError: names what is missing.
        TypeError: the value has no JSON form.
    """
    if isinstance(value, StrictUndefined):
        return str(value)  # raises
    raise TypeError(f"{value!r} ({type(value).__name__}) has no form in a configuration file")
