"""What there is when a page begins whose blocks are typed: its configuration, and what runs.

``tests/service/test_howto_pages.py`` types them. ``python -m tests.typed_pages`` says of each block by which
test it is run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from tests import pages
from tests.rigs.typed import blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TYPED_ELSEWHERE: Final = {
    "docs/start.md": "tests/service/test_start_page.py",
    **{
        f"docs/caches/{name}.md": "tests/service/test_cache_pages.py"
        for name in ("ats", "nginx", "squid", "varnish")
    },
}
SECRET: Final = "secret"
TOKENS: Final = (
    '[[auth.tokens]]\nname = "cms"\nscopes = ["submit", "read", "admin"]\nsites = ["*.example.com"]\n'
    f'sha256 = "{hashlib.sha256(SECRET.encode()).hexdigest()}"\n'
)
SITES: Final = '[[site]]\nhost = "*.example.com"\n'
VARNISH: Final = (
    '[[node]]\nname = "{}"\ndriver = "varnish"\nurl = "http://127.0.0.1:6081"\nevidence = "any"\n'
)
NGINX: Final = '[[node]]\nname = "{}"\ndriver = "nginx"\nurl = "http://127.0.0.1:8080"\nevidence = "any"\n'
LAYERS: Final = (
    '[[layer]]\nname = "parent"\n[[layer]]\nname = "edge"\n'
    + VARNISH.format("parent-1").replace("driver", 'layer = "parent"\ndriver')
    + NGINX.format("edge-1").replace("driver", 'layer = "edge"\ndriver')
)
ONE: Final = VARNISH.format("varnish-1")
READY: Final = "until curl -fs http://127.0.0.1:9181/readyz >/dev/null; do kill -0 $!; sleep 0.1; done\n"
SERVE: Final = f"purgeline serve --config engine.toml >engine.log 2>&1 &\n{READY}"
LOAD: Final = """\
TASK='{"targets": ["http://img.example.com/a", "http://img.example.com/b"]}'
for i in $(seq 50); do echo "$TASK"; done >load.ndjson
while sleep 0.05; do
    curl -s --data-binary @load.ndjson -H 'Content-Type: application/x-ndjson' \\
        http://127.0.0.1:9181/v1/engine/tasks
done >/dev/null &
"""
CDNI_DOOR: Final = '[[door]]\nkind = "cdni"\nlisten = "127.0.0.1:9183"\ncdn_id = "AS64496:0"\n'


class Setting(NamedTuple):
    """What there is when a page begins.

    Attributes:
        config: what ``engine.toml`` holds beside the place where the engine listens; empty: there is none.
        begin: what is typed before.
        own_tables: the page's ``toml`` blocks are in ``engine.toml``, too.
        put: what stands, in the test, for words of the page.
        is_terminal: what is shown, a terminal of 80 columns shows.
        by_shape: numbers, and some words, may be others than in the page.
    """

    config: str = ""
    begin: str = ""
    own_tables: bool = False
    put: Mapping[str, str] = {}
    is_terminal: bool = False
    by_shape: bool = False


PAGES: Final = {
    "README.md": Setting(
        LAYERS,
        put={
            "serve --config engine.toml &": f"serve --config engine.toml >engine.log 2>&1 &\n{READY.rstrip()}"
        },
        is_terminal=True,
        by_shape=True,
    ),
    "alerts.md": Setting(NGINX.format("edge-7"), SERVE),
    "cdni.md": Setting(
        ONE + SITES + TOKENS + CDNI_DOOR,
        SERVE,
        put={
            "https://dcdn.example.com:9183": "http://127.0.0.1:9183",
            "PURGELINE_TOKEN=…": f"PURGELINE_TOKEN={SECRET}",
        },
    ),
    "client.md": Setting(ONE),
    "cluster.md": Setting(
        f'name = "engine-1"\n[store]\nurl = "redis://127.0.0.1:6379/0"\n{ONE}',
        "mkdir two && sed 's/9181/9182/; s/engine-1/engine-2/' engine.toml >two/engine.toml\n"
        "(cd two && exec purgeline serve --config engine.toml >engine.log 2>&1) &\n"
        + READY.replace("9181", "9182")
        + SERVE,
        put={"http://10.0.0.11:9181": "http://127.0.0.1:9181"},
        is_terminal=True,
        by_shape=True,
    ),
    "cms.md": Setting(ONE + SITES + TOKENS, SERVE, own_tables=True),
    "debug.md": Setting(
        LAYERS,
        SERVE.replace("serve", "serve --workers 1") + LOAD,
        put={f"--seconds {seconds}": "--seconds 1" for seconds in (60, 10, 5, 4, 3)},
        by_shape=True,
    ),
    "doctor.md": Setting(
        ONE,
        SERVE,
        put={"http://cdn-1:9181,http://cdn-2:9181": "http://127.0.0.1:9181"},
    ),
    "groups.md": Setting(ONE + SITES + TOKENS, SERVE),
    "htcp.md": Setting(put={"/etc/purgeline/": ""}),
    "keys.md": Setting(),
    "later.md": Setting(ONE, SERVE),
    "migration.md": Setting(),
    "monitoring.md": Setting(put={"/etc/prometheus/": "etc/prometheus/"}, by_shape=True),
    "pausing.md": Setting(NGINX.format("edge-7"), SERVE),
    "receipts.md": Setting(ONE, SERVE),
    "recording.md": Setting(
        ONE,
        SERVE,
        put={"http://test-engine:9181": "http://127.0.0.1:9181"},
        by_shape=True,
    ),
    "running.md": Setting(ONE),
    "streams.md": Setting(
        ONE + SITES + TOKENS,
        SERVE + 'redis-cli() { command redis-cli -p 6379 "$@"; }\n',
        own_tables=True,
        put={"redis://:secret@bus.example.com/0": "redis://127.0.0.1:6379/0"},
        by_shape=True,
    ),
    "tracing.md": Setting(
        ONE + '[[callback]]\nhost = "127.0.0.1"\n',
        SERVE,
        put={"https://hooks.example.com": "http://127.0.0.1:8081"},
    ),
    "verification.md": Setting(ONE + '[[origin]]\nhost = "img.example.com"\nurl = "{origin}"\n', SERVE),
    "who.md": Setting(ONE, SERVE),
}


def path_of(name: str) -> Path:
    """Return where a page is."""
    return (pages.ROOT if name == "README.md" else pages.DOCS) / name


def listing() -> list[str]:
    """Return a line for each block of commands: its page, the test that runs it, and its first line."""
    lines = []
    for page in pages.PAGES:
        name = str(page.relative_to(pages.ROOT))
        own = TYPED_ELSEWHERE.get(name, "tests/service/test_howto_pages.py")
        for block in blocks(page.read_text(encoding="utf-8")):
            by = f"not run: {block.not_run}" if block.not_run else block.run_by or own
            lines.append(f"{name}: {by}: {block.script.splitlines()[0].strip()}")
    return lines


if __name__ == "__main__":
    print("\n".join(listing()))
