"""docs/architecture.md and its picture say what the tree is."""

import ast
import re

import pytest

from tests import house

TEXT = (house.ROOT / "docs/architecture.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:engine|release|tests|templates|salt|docs)/[\w./-]*)(?::([\w.]+))?`", TEXT)
PLACES = sorted({":".join(filter(None, place)) for place in NAMED})


def test_the_picture_shows_the_imports() -> None:
    """Drawn again with ``python -m tests.house``."""
    assert house.PICTURE.read_text(encoding="utf-8") == house.draw()


def test_every_room_is_told() -> None:
    """In the table of rooms, by its folder."""
    rooms = {path.parent.name for path in (house.ROOT / "engine").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^\| `engine/(\w+)/`", TEXT, re.MULTILINE))


@pytest.mark.parametrize("named", PLACES)
def test_what_it_names_is_there(named: str) -> None:
    """Files and folders; and in files, classes and functions."""
    path, _, name = named.partition(":")
    place = house.ROOT / path
    assert place.exists()
    body = ast.parse(place.read_text(encoding="utf-8")).body if name else []
    for part in filter(None, name.split(".")):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        [body] = [node.body for node in body if isinstance(node, kinds) and node.name == part]
