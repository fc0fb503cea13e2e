"""``python -m tests.house``: draws the rooms of the engine, and what they import, into docs/architecture.svg.

Floors come from the contract in .importlinter, arrows from the code's own imports (those for types alone
included). An import is left out of the picture when other arrows lead there as well: `cli` imports `config`,
which arrows from `cli` reach through `process`. The supervisor stands apart: it imports nothing of ours, and
only `cli` starts it. A test compares the file with what is drawn here.
"""

from __future__ import annotations

import configparser
from pathlib import Path

import grimp
from jinja2 import Template

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/architecture.svg"
BOX_W, BOX_H, FLOOR_H, WIDTH = 118, 34, 78, 760  # pixels
_SHEET = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ floor * floors }}"
  font-family="sans-serif" font-size="13" text-anchor="middle">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#5b7fa6"/></marker></defs>
<rect width="100%" height="100%" fill="#fff"/>
{% for number in range(1, floors) %}
<path d="M0 {{ number * floor }}H{{ width }}" stroke="#dde3ea"/>
{% endfor %}
{% for x1, y1, x2, y2 in lines %}
{% set middle = (y1 + y2) // 2 %}
<path d="M{{ x1 }} {{ y1 + box_h // 2 }}C{{ x1 }} {{ middle }} {{ x2 }} {{ middle }} {{ x2 }}
  {{ y2 - box_h // 2 - 1 }}"
  fill="none" stroke="#5b7fa6" stroke-width="1.2" marker-end="url(#tip)"/>
{% endfor %}
{% for room, (x, y) in boxes %}
<rect x="{{ x - box_w // 2 }}" y="{{ y - box_h // 2 }}" width="{{ box_w }}" height="{{ box_h }}" rx="5"
  fill="#f4f6f8" stroke="#8a97a6"/>
<text x="{{ x }}" y="{{ y + 5 }}" fill="#1d2733">{{ room }}</text>
{% endfor %}
</svg>
"""


def floors() -> list[list[str]]:
    """Return the rooms, floor by floor, from the top."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    text = contracts["importlinter:contract:engine-rooms"]["layers"]
    return [[room.strip() for room in line.split("|")] for line in text.split("\n") if line.strip()]


def imports() -> dict[str, set[str]]:
    """Return, for each room of the engine, the rooms that it imports."""
    graph = grimp.build_graph("engine", cache_dir=None)
    rooms = [room for floor in floors() for room in floor]
    return {
        room: {
            other
            for other in rooms
            if other != room
            and graph.direct_import_exists(
                importer=f"engine.{room}", imported=f"engine.{other}", as_packages=True
            )
        }
        for room in rooms
    }


def arrows() -> list[tuple[str, str]]:
    """Return the imports that no other arrows lead along, from the top floor down."""
    direct = imports()
    below: dict[str, set[str]] = {}  # what a room's arrows lead to, along all floors
    for room in [room for floor in reversed(floors()) for room in floor]:
        below[room] = direct[room].union(*(below.get(other, ()) for other in direct[room]))
    return [
        (room, other)
        for room, others in direct.items()
        for other in sorted(others)
        if not any(other in below[third] for third in others - {other})
    ]


def draw() -> str:
    """Return the picture."""
    rows = floors()
    centres = {
        room: (WIDTH * (index + 1) // (len(floor) + 1), FLOOR_H * number + FLOOR_H // 2)
        for number, floor in enumerate(rows)
        for index, room in enumerate(floor)
    }
    lines = [(*centres[room], *centres[other]) for room, other in arrows()]
    centres["supervisor"] = (WIDTH - BOX_W, FLOOR_H // 2)
    sheet = Template(_SHEET, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    size = {"width": WIDTH, "floor": FLOOR_H, "floors": len(rows), "box_w": BOX_W, "box_h": BOX_H}
    return str(sheet.render(boxes=centres.items(), lines=lines, **size))


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} drawn")
