"""A prefetch of the old object that is under way when its purge comes: visitors get the new one all the same.

The origin's head waits for an event; what it answers is what it had when it was asked.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from release.lab import caches
from tests.fakes.node import Act, FakeNode, Request, answer
from tests.rigs.engine_process import EngineProcess, get_body, layer_tables, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
DRIVERS = ["varnish", "nginx", "ats", "squid"]
_numbers = itertools.count(1)


class SlowOrigin:
    """An origin that may hold its answers back."""

    def __init__(self) -> None:
        self.version = "v1"
        self.node = FakeNode(self._answer, answers_probes=False)
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.node.port}"

    def hits(self, path: str) -> int:
        """How often *path* was asked for."""
        return sum(request.path == path and request.method == "GET" for request in self.node.requests)

    def _answer(self, request: Request) -> Iterator[bytes | Act]:
        body = f"{self.version} {request.url}".encode()
        go_on = self.go_on
        go_on.wait(60)
        yield answer(200, body, "Cache-Control: public, max-age=3600")

    def hold(self) -> threading.Event:
        """Hold back old content from here on; returns the event that lets it go."""
        self.version = "v1"
        self.go_on = threading.Event()
        return self.go_on

    def change(self) -> None:
        """Have new content, answered at once; what is held back stays as it was."""
        self.version = "v2"
        self.go_on = threading.Event()
        self.go_on.set()


class Rig:
    """A slow origin, a parent of Varnish with an edge of Varnish below, and an edge of each driver."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.origin = SlowOrigin()
        stack.enter_context(self.origin.node)
        backend = self.origin.address
        self.caches: dict[str, caches.Cache] = {
            driver: stack.enter_context(caches.start_cache(driver, folder, name=driver, backend=backend))
            for driver in DRIVERS
        }
        self.caches["parent"] = stack.enter_context(
            caches.start_varnish(folder, name="parent", backend=backend, is_parent=True)
        )
        self.caches["below"] = stack.enter_context(
            caches.start_varnish(folder, name="below", backend=self.caches["parent"].address)
        )
        tables = layer_tables("parent", "edge") + "".join(
            node_table(
                cache,
                name=name,
                layer="parent" if name == "parent" else "edge",
                parents=["parent"] if name == "below" else [],
            )
            for name, cache in self.caches.items()
        )
        self.engine = stack.enter_context(EngineProcess(folder, tables))

    def purge_and_fetch(self, path: str, *nodes: str, kind: str = "url", **fields: object) -> str:
        """Hand in a purge that is followed by a prefetch; returns its id."""
        return self.engine.submit(
            [f"http://{HOST}{path}"],
            nodes=list(nodes),
            kind=kind,
            **(fields or {"prefetch": True}),
        )

    def acked_at_once(self, task_id: str) -> None:
        """Give a purge half a second, in which a cache surely answers."""
        until = time.monotonic() + 0.5
        while time.monotonic() < until and not self.engine.task(task_id)["counter"]:
            time.sleep(0.01)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path_factory.mktemp("beside"), stack)


@pytest.fixture
def path() -> str:
    """Return a path that no other test has."""
    return f"/{next(_numbers)}"


@pytest.mark.parametrize("driver", DRIVERS)
def test_two_purges_with_prefetch_half_a_second_apart_end_with_the_newer_content(
    rig: Rig, path: str, driver: str
) -> None:
    let_go = rig.origin.hold()
    first = rig.purge_and_fetch(path, driver)
    wait_until(lambda: rig.origin.hits(path) == 1, what="the origin being asked")
    rig.origin.change()
    second = rig.purge_and_fetch(path, driver)
    rig.acked_at_once(second)
    let_go.set()
    assert rig.engine.wait_for(first)["state"] == "done"
    assert rig.engine.wait_for(second)["state"] == "done"
    assert get_body(rig.caches[driver], path).startswith(b"v2 ")


def test_a_prefetch_of_what_a_soft_purge_made_stale_waits_for_the_new_object(rig: Rig, path: str) -> None:
    """Otherwise Varnish serves the stale one and fetches beside it, and the prefetch seems to be over."""
    get_body(rig.caches["varnish"], path)
    let_go = rig.origin.hold()
    first = rig.purge_and_fetch(path, "varnish", soft=True, prefetch=True)
    wait_until(lambda: rig.origin.hits(path) == 2, what="the origin being asked")
    rig.origin.change()
    second = rig.purge_and_fetch(path, "varnish", soft=False)
    rig.acked_at_once(second)
    let_go.set()
    assert rig.engine.wait_for(first)["state"] == "done"
    assert rig.engine.wait_for(second)["state"] == "done"
    assert get_body(rig.caches["varnish"], path).startswith(b"v2 ")


def test_a_prefetch_at_an_edge_is_under_way_at_its_parent(rig: Rig, path: str) -> None:
    """The parent's purge is sent again first, and then the edge's."""
    let_go = rig.origin.hold()
    first = rig.purge_and_fetch(path, "below", action="prefetch")
    wait_until(lambda: rig.origin.hits(path) == 1, what="the origin being asked")
    rig.origin.change()
    second = rig.purge_and_fetch(path, "parent", "below")
    rig.acked_at_once(second)
    let_go.set()
    assert rig.engine.wait_for(first)["state"] == "done"
    assert rig.engine.wait_for(second)["counter"] == 4
    assert [get_body(rig.caches[name], path)[:2] for name in ("below", "parent")] == [b"v2", b"v2"]


def test_edges_are_not_left_stale_while_the_purge_of_their_parent_waits_for_a_prefetch(
    rig: Rig, path: str
) -> None:
    """They are purged soon, and again when the parent's purge counts."""
    rig.origin.version = "v1"
    assert get_body(rig.caches["below"], path + "/b").startswith(b"v1 ")
    let_go = rig.origin.hold()
    first = rig.purge_and_fetch(path + "/a", "parent", action="prefetch")
    wait_until(lambda: rig.origin.hits(path + "/a") == 1, what="the origin being asked")
    rig.origin.change()
    second = rig.engine.submit([f"http://{HOST}{path}"], kind="prefix", nodes=["parent", "below"])
    wait_until(lambda: get_body(rig.caches["below"], path + "/b").startswith(b"v2 "), what="the new page")
    assert rig.engine.task(second)["counter"] == 0
    let_go.set()
    assert rig.engine.wait_for(first)["state"] == "done"
    assert rig.engine.wait_for(second)["counter"] == 2


@pytest.mark.parametrize("kind", ["prefix", "regex", "key", "host"])
def test_a_wide_purge_covers_prefetches_under_way(rig: Rig, path: str, kind: str) -> None:
    """Whatever the purge names: the object that comes later goes with the purge sent again."""
    target: object = {
        "prefix": f"http://{HOST}{path}",
        "regex": f"http://{HOST}{path}.*",
        "key": f"{HOST}/{path[1:]}",
        "host": HOST,
    }[kind]
    let_go = rig.origin.hold()
    first = rig.purge_and_fetch(path + "/a", "varnish", action="prefetch")
    wait_until(lambda: rig.origin.hits(path + "/a") == 1, what="the origin being asked")
    rig.origin.change()
    second = rig.engine.submit([target], kind=kind, nodes=["varnish"])
    rig.acked_at_once(second)
    waiting = rig.engine.task(second)
    let_go.set()
    assert rig.engine.wait_for(first)["state"] == "done"
    assert rig.engine.wait_for(second)["state"] == "done"
    if kind != "key":  # the origin gives its objects no keys
        assert get_body(rig.caches["varnish"], path + "/a").startswith(b"v2 ")
    assert (waiting["state"], waiting["counter"]) == ("running", 0)


@pytest.mark.parametrize("driver", ["varnish", "nginx"])
def test_a_rebound_drops_what_a_visitors_fetch_brought_after_the_purge(
    rig: Rig, path: str, driver: str
) -> None:
    """No cache tells of such a fetch: the purge is done, and sent once more."""
    cache = rig.caches[driver]
    let_go = rig.origin.hold()
    with ThreadPoolExecutor(1) as visitors:
        visit = visitors.submit(get_body, cache, path)
        wait_until(lambda: rig.origin.hits(path) == 1, what="the origin being asked")
        rig.origin.change()
        target = f"http://{HOST}{path}"
        task = rig.engine.submit([target], nodes=[driver], prefetch=True, rebound_s=0.5)
        without = rig.engine.submit([target], nodes=[driver], rebound_s=0.5)
        assert rig.engine.wait_for(without)["state"] == "done"
        let_go.set()
        assert visit.result().startswith(b"v1 ")
    assert get_body(cache, path).startswith(b"v1 ")
    assert rig.engine.wait_for(task)["counter"] == 2
    assert get_body(cache, path).startswith(b"v2 ")


def test_a_cache_goes_on_fetching_when_its_client_gave_up(tmp_path: Path) -> None:
    """The prefetch times out, and is not done again, because its task was cancelled."""
    origin = SlowOrigin()
    with ExitStack() as stack:
        stack.enter_context(origin.node)
        edges = {
            driver: stack.enter_context(
                caches.start_cache(driver, tmp_path, name=driver, backend=origin.address)
            )
            for driver in ("varnish", "nginx")
        }
        tables = "".join(node_table(cache, name=name) for name, cache in edges.items())
        engine = stack.enter_context(EngineProcess(tmp_path, tables, prefetch_timeout_s=1.5))
        let_go = origin.hold()
        first = engine.submit([f"http://{HOST}/a"], action="prefetch")
        wait_until(lambda: origin.hits("/a") == 2, what="the origin being asked")
        engine.request("DELETE", f"/v1/engine/task/{first}")
        wait_until(lambda: not sum(engine.node(name)["in_flight"] for name in edges), what="the time-out")
        origin.change()
        second = engine.submit([f"http://{HOST}/a"], prefetch=True)
        time.sleep(0.3)
        assert engine.task(second)["counter"] == 0
        let_go.set()
        assert engine.wait_for(second)["state"] == "done"
        assert [get_body(cache, "/a")[:2] for cache in edges.values()] == [b"v2", b"v2"]
