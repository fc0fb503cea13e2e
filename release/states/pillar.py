"""Checks pillar keys on this machine by the states' schema, salt/engine/pillar.jinja, before they go out.

The states check the whole pillar, on each host; here it is what the pipeline itself puts over the operator's.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jinja2 import DictLoader, Environment, StrictUndefined

from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "salt/engine/pillar.jinja"


def check(tree: Mapping[str, str], engine: Mapping[str, Any]) -> None:
    """Refuse keys of the pillar's ``engine`` that the states of *tree* would refuse.

    Args:
        tree: a state tree, as path and text; one without a schema is of an older release: nothing is checked.
        engine: the keys.

    Raises:
        SettingsError: names the key, its value and what would be right.
    """
    if SCHEMA in tree:
        schema = _schema(tree[SCHEMA])
        schema.check("engine", engine, schema.schema)


@cache
def _schema(text: str) -> Any:
    environment = Environment(  # noqa: S701 - no HTML
        loader=DictLoader({SCHEMA: text}), undefined=StrictUndefined
    )
    environment.globals["raise"] = _refuse  # both as Salt has them
    environment.filters["regex_match"] = _groups
    return environment.get_template(SCHEMA).module


def _refuse(text: str) -> NoReturn:
    raise SettingsError(text)


def _groups(text: str, pattern: str) -> tuple[str, ...] | None:
    match = re.match(pattern, text)
    return match.groups() if match else None
