"""Parents first: the order of work over two and more layers."""

from collections.abc import Iterable
from pathlib import Path

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.node import OK, Act, FakeNode, Request, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, layer_tables, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
LAYERS = layer_tables("parent", "edge")


def test_a_purge_goes_through_parent_and_edges(origin: Origin, tmp_path: Path) -> None:
    """Real caches: both edges serve the new page, because the parent dropped it before them."""
    with (
        caches.start_varnish(tmp_path, name="parent-1", backend=origin.address, is_parent=True) as parent,
        caches.start_varnish(tmp_path, name="edge-1", backend=parent.address) as one,
        caches.start_nginx(tmp_path, name="edge-2", backend=parent.address) as two,
        EngineProcess(
            tmp_path,
            LAYERS
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(one, name="edge-1", parents=["parent-1"])
            + node_table(two, name="edge-2"),
        ) as engine,
    ):
        urls = [f"http://{HOST}/{number}" for number in range(100)]
        for round_number in range(1, 4):
            for edge in (one, two):
                for number in range(0, 100, 20):
                    assert get_body(edge, f"/{number}").startswith(b"v%d " % round_number)
            origin.version = f"v{round_number + 1}"
            task = engine.wait_for(engine.submit(urls))
            assert (task["state"], task["counter"]) == ("done", 300)
            assert [
                (layer["name"], layer["total"], layer["counter"], layer["failed"], layer["delayed"])
                for layer in task["layers"]
            ] == [("parent", 100, 100, 0, 0), ("edge", 200, 200, 0, 0)]
            assert task["working_layer"] is None


def test_each_edge_waits_for_its_own_parents_and_no_others(tmp_path: Path) -> None:
    """One parent hangs: its edge waits, the other's edge is purged; one without `parents` waits for all."""
    with FakeNode() as quick, FakeNode(always(Act.HANG)) as stuck, FakeNode() as edge:
        tables = (
            LAYERS
            + fake_table(quick.url, name="quick", layer="parent")
            + fake_table(stuck.url, name="stuck", layer="parent")
            + fake_table(edge.url, name="below-quick", parents=["quick"], headers={"X-Edge": "below-quick"})
            + fake_table(edge.url, name="below-stuck", parents=["stuck"], headers={"X-Edge": "below-stuck"})
            + fake_table(edge.url, name="below-all", headers={"X-Edge": "below-all"})
            + fake_table(edge.url, name="alone", parents=[], headers={"X-Edge": "alone"})
        )
        with EngineProcess(tmp_path, tables, request_timeout_s=60) as engine:
            task_id = engine.submit([f"http://{HOST}/a"])
            wait_until(lambda: len(stuck.requests) == 1, what="the hanging parent being asked")
            wait_until(lambda: engine.task(task_id)["counter"] == 3, what="the free nodes being acked")
            task = engine.task(task_id)
            assert (task["state"], task["working_layer"], task["active"]) == ("running", "parent", True)
            assert sorted(request.headers["x-edge"] for request in edge.requests) == ["alone", "below-quick"]
            stuck.stop()
            stuck.script = always(OK)
            stuck.start()
            task = engine.wait_for(task_id)
            assert (task["state"], task["counter"]) == ("done", 6)
            assert {request.headers["x-edge"] for request in edge.requests} == {
                "alone",
                "below-quick",
                "below-stuck",
                "below-all",
            }


def test_an_edge_is_asked_only_after_its_parent_has_answered(tmp_path: Path) -> None:
    """For every single URL of a large task, over three layers."""
    order: list[tuple[str, str]] = []

    def noting(name: str) -> FakeNode:
        def script(request: Request) -> Iterable[bytes | Act]:
            order.append((name, request.path))
            return [OK]

        return FakeNode(script)

    with noting("far") as far, noting("mid") as mid, noting("near") as near:
        tables = layer_tables("far", "mid", "near") + "".join(
            fake_table(node.url, name=name, layer=name)
            for name, node in (("far", far), ("mid", mid), ("near", near))
        )
        with EngineProcess(tmp_path, tables) as engine:
            task = engine.wait_for(engine.submit([f"http://{HOST}/{number}" for number in range(500)]))
            assert (task["state"], task["counter"]) == ("done", 1500)
            place = {key: index for index, key in enumerate(order)}
            for number in range(500):
                path = f"/{number}"
                assert place["far", path] < place["mid", path] < place["near", path]
            task = engine.wait_for(engine.submit([f"http://{HOST}/x"], layers=["near", "far"]))
            assert task["total"] == 2
            assert order[-2:] == [("far", "/x"), ("near", "/x")]


def test_a_parent_that_refuses_does_not_keep_its_edges_stale(tmp_path: Path) -> None:
    """The edge is purged at once, and again after the parent; the task waits and names the parent."""
    with FakeNode(always(answer(403))) as parent, FakeNode() as edge:
        tables = LAYERS + fake_table(parent.url, name="p", layer="parent") + fake_table(edge.url, name="e")
        with EngineProcess(tmp_path, tables) as engine:
            task = engine.wait_for(engine.submit([f"http://{HOST}/a"]), "partial")
            assert (task["counter"], task["failed"], task["delayed"]) == (0, 0, 2)
            assert [error["node"] for error in task["errors"]] == ["p"]
            wait_until(lambda: edge.urls == [f"http://{HOST}/a"], what="the edge being purged early")
            parent.script = always(OK)
            engine.wait_for(task["task_id"], "done", timeout_s=40)
            assert edge.urls == [f"http://{HOST}/a"] * 2


def test_a_dead_parent_has_its_edges_purged_at_once_and_again_when_it_is_back(
    origin: Origin, tmp_path: Path
) -> None:
    """Real caches: meanwhile the edge may take the old page from the parent, so the second purge counts."""
    with (
        caches.start_nginx(tmp_path, name="parent-1", backend=origin.address) as parent,
        caches.start_varnish(tmp_path, name="edge-1", backend=parent.address) as one,
        caches.start_varnish(tmp_path, name="edge-2", backend=origin.address) as two,
        EngineProcess(
            tmp_path,
            LAYERS
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(one, name="edge-1")
            + node_table(two, name="edge-2", parents=[]),
        ) as engine,
    ):
        for cache in (one, two):
            assert get_body(cache, "/a").startswith(b"v1 ")
        origin.version = "v2"
        parent.kill()
        task_id = engine.submit([f"http://{HOST}/a"], due_s=1)
        task = engine.wait_for(task_id, "partial")
        assert (task["counter"], task["delayed"]) == (1, 2)
        assert get_body(two, "/a").startswith(b"v2 ")
        wait_until(lambda: engine.node("edge-1")["acked"] == 1, what="the edge being purged early")
        parent.start()
        task = engine.wait_for(task_id, "done", timeout_s=30)
        assert (task["counter"], task["delayed"]) == (3, 0)
        assert engine.node("edge-1")["acked"] == 2
        assert get_body(one, "/a").startswith(b"v2 ")
        assert engine.node("edge-1")["delayed"] == engine.node("parent-1")["delayed"] == 0


def test_below_a_dead_parent_the_second_purge_comes_after_the_parents(tmp_path: Path) -> None:
    """A restart of the engine in between changes nothing of it, but for another early one."""
    order: list[str] = []

    def noting(name: str) -> FakeNode:
        def script(request: Request) -> Iterable[bytes | Act]:
            order.append(f"{name} {request.method}")
            return [OK]

        return FakeNode(script)

    with noting("parent") as parent, noting("edge") as edge:
        tables = LAYERS + fake_table(parent.url, name="p", layer="parent") + fake_table(edge.url, name="e")
        with EngineProcess(tmp_path, tables) as engine:
            parent.stop()
            task_id = engine.submit([f"http://{HOST}/a"], due_s=1, prefetch=True)
            engine.wait_for(task_id, "partial")
            wait_until(lambda: order == ["edge PURGE"], what="the early purge")
            assert engine.stop() == 0
            engine.start()
            assert engine.task(task_id)["delayed"] == 4
            wait_until(lambda: order == ["edge PURGE"] * 2, what="another early purge")
            parent.start()
            task = engine.wait_for(task_id, "done", timeout_s=30)
            assert task["counter"] == 4
            later = order[2:]
            assert sorted(later) == ["edge GET", "edge PURGE", "parent GET", "parent PURGE"]
            assert later.index("parent PURGE") < later.index("edge PURGE") < later.index("edge GET")
            assert later.index("parent PURGE") < later.index("parent GET") < later.index("edge GET")
