"""``python -m tests.console_docs``: takes the pictures of docs/console.md, in docs/console/.

Real caches and an engine are started, one cache is killed, another is left with a stale page, and each view
is shown in both themes, wide and narrow. The pictures depend on the fonts of the machine (here Inter), so no
test compares them. The program pngquant makes them small.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.browser import Browser
from tests.rigs.engine_process import EngineProcess, get_body, layer_tables, node_table
from tests.rigs.tree import engine_in, region_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from release.lab.caches import Cache

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs/console"
HOST: Final = "img.example.com"
STALE: Final = f"http://{HOST}/campaign/hero.jpg"
SIZES: Final = {"1440": (1440, 900), "360": (360, 780)}
_EDGES: Final = {1: "varnish", 2: "nginx", 3: "varnish", 4: "nginx", 5: "varnish", 6: "varnish", 7: "varnish"}


class Studio:
    """The engine, its caches, and the camera."""

    def __init__(
        self, engine: EngineProcess, browser: Browser, nodes: dict[str, Cache], origin: Origin
    ) -> None:
        self.engine = engine
        self.browser = browser
        self.nodes = nodes
        self.origin = origin
        self._page = f"http://127.0.0.1:{engine.port}/"

    def show(self, view: str, css: str, text: str = "") -> None:
        """Show a view, and wait for what it shows."""
        self.browser.open(self._page + view)
        self.browser.see(".pill", "live")
        self.browser.see(css, text)

    def take(self, name: str) -> None:
        """Take a picture as it is."""
        time.sleep(0.4)
        path = FOLDER / f"{name}.png"
        self.browser.picture(path)
        subprocess.run(["pngquant", "--force", "--strip", "--ext", ".png", "96", str(path)], check=True)

    def take_all(self, name: str) -> None:
        """Take one in each theme and size."""
        for theme in ("light", "dark"):
            self.browser.theme(theme)
            for width, size in SIZES.items():
                self.browser.size(*size)
                time.sleep(1.2)  # the page is live: what depends on the width is drawn again
                self.take(f"{name}-{theme}-{width}")
        self.browser.theme("light")
        self.browser.size(*SIZES["1440"])

    def purge(self, path: str, count: int, **fields: object) -> str:
        """Purge that many pages."""
        targets = [f"http://{HOST}/{path}/{number}.jpg" for number in range(count)]
        return self.engine.submit(targets, **fields)

    def publish(self, path: str, text: str) -> None:
        """Have the origin serve *text*."""
        fields = {"Cache-Control": "max-age=600", "ETag": f'"{text}"'}
        self.origin.set(HOST, path, text.encode(), headers=fields)


def main() -> None:
    """Take all pictures."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = stack.enter_context(Origin())
        nodes: dict[str, Cache] = {}
        tables = layer_tables("parent", "edge")
        for number in (1, 2):
            parent = caches.start_varnish(
                folder / f"p{number}", name=f"parent-{number}", backend=origin.address, is_parent=True
            )
            nodes[f"parent-{number}"] = stack.enter_context(parent)
            tables += node_table(parent, name=f"parent-{number}", layer="parent")
        for number, driver in _EDGES.items():
            parent = nodes[f"parent-{1 + number % 2}"]
            name = f"edge-{number}"
            edge = caches.start_cache(driver, folder / name, name=name, backend=parent.address)
            nodes[name] = stack.enter_context(edge)
            tables += node_table(edge, name=name, parents=[f"parent-{1 + number % 2}"])
        tables += (
            f'[[site]]\nhost = "*.example.com"\n[[origin]]\nhost = "*.example.com"\nurl = "{origin.url}"\n'
        )
        engine = stack.enter_context(EngineProcess(folder, tables))
        browser = stack.enter_context(Browser(folder))
        studio = Studio(engine, browser, nodes, origin)
        _a_cache_is_away(studio)
        _a_page_is_stale(studio)
        _a_region_is_sick(stack, folder / "tree", browser, origin)
        print(json.dumps(browser.errors()))


def _a_cache_is_away(studio: Studio) -> None:
    """Each view, while edge-3 is dead."""
    studio.show("#/fleet", ".verdict", "All 9 caches are well")
    for number in range(40):
        studio.purge(f"news-{number}", 1 + number * 7 % 30)
        time.sleep(0.3 if number % 9 else 1.5)
    studio.take("well")
    studio.nodes["edge-3"].kill()
    task_id = ""
    for number in range(12):
        task_id = studio.purge(f"shop-{number}", 5 + number * 5 % 40, due_s=3)
        time.sleep(0.4)
    studio.browser.see(".verdict", "edge-3 is down since")
    studio.engine.wait_for(task_id, "partial")
    studio.take_all("fleet")
    for name, view, css in (
        ("node", "#/fleet/edge-3", ".side h2"),
        ("tasks", "#/tasks", ".listrow a"),
        ("task", f"#/task/{task_id}", ".taskhead"),
        ("cluster", "#/cluster", "h2"),
    ):
        studio.show(view, css)
        studio.take_all(name)
    studio.nodes["edge-3"].start()
    studio.engine.wait_for(task_id)


def _a_page_is_stale(studio: Studio) -> None:
    """The incident: edge-7 serves a page that was purged everywhere else."""
    browser = studio.browser
    path = STALE.partition(HOST)[2]
    studio.publish(path, "spring")
    edges = [node for name, node in studio.nodes.items() if name.startswith("edge")]
    for edge in edges:
        get_body(edge, path)
    studio.publish(path, "summer")
    others = [name for name in studio.nodes if name != "edge-7"]
    studio.engine.wait_for(studio.engine.submit([STALE], nodes=others))
    for edge in edges[:-1]:
        wait_until(lambda edge=edge: get_body(edge, path) == b"summer")  # type: ignore[misc]
    studio.show("#/fleet", ".verdict", "All 9 caches are well")
    studio.show(f"#/url?url={quote(STALE)}", ".sentence", "edge-7")
    studio.take_all("url")
    studio.take("incident-1")
    browser.click("[data-act=purge]", "Purge it on edge-7")
    browser.click("button[type=submit]", "Preview")
    browser.see("[data-preview]")
    studio.take_all("purge")
    studio.take("incident-2")
    browser.click("[data-act=submit]")
    browser.see(".taskhead .state", "done")
    studio.take("incident-3")
    wait_until(lambda: get_body(edges[-1], path) == b"summer")
    browser.click("a.button", "Why is it stale?")
    wait_until(lambda: len(browser.all("[data-state=fresh]")) >= len(studio.nodes), what="all fresh")
    studio.take("incident-4")


def _a_region_is_sick(stack: contextlib.ExitStack, folder: Path, browser: Browser, origin: Origin) -> None:
    """Two regions, of whose caches one is dead: the root's tiles, and a panel with each leaf."""
    nodes: dict[str, Cache] = {}
    regions = {}
    for name in ("eu", "us"):
        tables = ""
        for number in (1, 2, 3):
            cache = caches.start_varnish(
                folder / f"{name}-{number}", name=f"edge-{number}", backend=origin.address
            )
            nodes[f"{name}/edge-{number}"] = stack.enter_context(cache)
            tables += node_table(cache, name=f"edge-{number}")
        regions[name] = stack.enter_context(engine_in(folder, tables, name=name))
    tables = "".join(region_table(region, name=name) for name, region in regions.items())
    root = stack.enter_context(engine_in(folder, tables, name="root"))
    studio = Studio(root, browser, nodes, origin)
    studio.show("#/fleet/eu", ".side li", "caches below it: 3 ready")
    nodes["eu/edge-2"].kill()
    root.wait_for(studio.purge("tree", 12, due_s=2), "partial", timeout_s=40)
    browser.see(".tile[data-node=eu].s-sick", "1 down, 2 ready")
    studio.take_all("region")


if __name__ == "__main__":
    main()
