"""``python -m tests.cache_docs``: writes into docs/caches/ what the program says, so that pages stay true.

Such a part stands between two comments. The first one names it: a command of ``purgeline``, whose output
follows, or ``kinds of DRIVER``, a table. A test compares them with what is made here.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.cli.main import main
from engine.config.tables import NodeConfig
from engine.nodes import drivers
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs/caches"
_PART: Final = re.compile(
    r"(<!-- ([^:>]+): made by python -m tests\.cache_docs -->\n)(.*?)(<!-- end -->)", re.DOTALL
)
_VARIANTS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "varnish": {
        '`key_mode = "xkey"`': {},
        '`key_mode = "ban"`': {"key_mode": "ban"},
        '`key_mode = "none"`': {"key_mode": "none"},
    },
    "nginx": {"module 2.3": {}, "`wildcard = true`": {"wildcard": True}},
    "ats": {
        "ATS": {},
        "`rules_file`": {"rules_file": "/rules", "rules_state_file": "/state", "rules_url": "http://{host}"},
        "`generation_header`": {"generation_header": "X-Generation", "generation_secret": "s"},
    },
    "squid": {"Squid": {}},
}
_ROWS: Final = {
    "url": Operation.PURGE_URL,
    "soft url": Operation.SOFT_URL,
    "prefix": Operation.PURGE_PREFIX,
    "host": Operation.PURGE_HOST,
    "regex": Operation.PURGE_REGEX,
    "key": Operation.PURGE_KEY,
    "soft key": Operation.SOFT_KEY,
    "prefetch": Operation.PREFETCH,
}


def kinds(driver: str) -> str:
    """Return a table of what nodes of a driver can do."""
    nodes = [
        NodeConfig(name="n", driver=driver, url="http://n", **keys)  # type: ignore[arg-type]
        for keys in _VARIANTS[driver].values()
    ]
    rows = [("", *_VARIANTS[driver]), ("---",) * (len(nodes) + 1)]
    rows += [(name, *(_ability(node, of) for node in nodes)) for name, of in _ROWS.items()]
    patterns = ("yes" if drivers.takes_host_patterns(node) else "no" for node in nodes)
    rows.append(("of `*.example.com`", *patterns))
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)


def _ability(node: NodeConfig, operation: Operation) -> str:
    sent = drivers.sent_for(node, operation)
    return "no" if sent is None else "yes" if sent is operation else "hard"


def said(command: str) -> str:
    """Return what ``purgeline`` prints, as a block."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(shlex.split(command)[1:])
    assert code == 0, command
    return f"```\n{out.getvalue().rstrip()}\n```\n"


def filled(page: str) -> str:
    """Return *page* with its parts made anew."""
    return _PART.sub(lambda found: found[1] + _made(found[2]) + found[4], page)


def _made(name: str) -> str:
    return kinds(name.rpartition(" ")[2]) if name.startswith("kinds of ") else said(name)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{path.name} written")
