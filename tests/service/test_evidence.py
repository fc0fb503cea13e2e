"""A cache that passes PURGE on is unproven, whatever comes back; and proven once it answers itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from release.lab.caches import Cache, start_nginx, start_varnish
from tests.rigs.engine_process import EngineProcess, get_body, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from release.lab.origin import Origin

PAGE = "http://img.example.com/a.html"
BUILT_IN_VCL = 'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{port}"; }}\n'


def piping_varnish(folder: Path, origin: Origin) -> tuple[Cache, Callable[[], None]]:
    """Start a Varnish with the built-in VCL, which pipes what it does not know; return what mends it."""
    cache = start_varnish(folder, name="edge-1", backend=origin.address)
    good = (cache.workdir / "varnish.vcl").read_text()
    return _changed(cache, "varnish.vcl", BUILT_IN_VCL.format(port=origin.address.rpartition(":")[2]), good)


def passing_nginx(folder: Path, origin: Origin) -> tuple[Cache, Callable[[], None]]:
    """Start an nginx without a purge location; return what mends it."""
    cache = start_nginx(folder, name="edge-1", backend=origin.address)
    good = (cache.workdir / "nginx.conf").read_text()
    begin, end = good.index("location ^~ /purge/"), good.index("location / {")
    bad = re.sub(r"if \([^)]*\) \{[^}]*\}", "", good[:begin] + good[end:])
    return _changed(cache, "nginx.conf", bad, good)


def _changed(cache: Cache, file: str, bad: str, good: str) -> tuple[Cache, Callable[[], None]]:
    def put(text: str) -> None:
        cache.kill()
        cache.write({file: text})
        cache.start()

    put(bad)
    return cache, lambda: put(good)


def unmarked_nginx(folder: Path, origin: Origin, canary: str = "") -> Cache:
    """Start an nginx that purges and has no mark: its 404 is that of any nginx."""
    cache = start_nginx(folder, name="edge-1", backend=origin.address, canary=canary)
    conf = (cache.workdir / "nginx.conf").read_text()
    _changed(cache, "nginx.conf", re.sub(r"add_header Purgeline-[^;]*;", "", conf), "")
    return cache


def stripped_varnish(folder: Path, origin: Origin) -> Cache:
    """Start a Varnish that purges, has no mark and hides what it is."""
    cache = start_varnish(folder, name="edge-1", backend=origin.address)
    bare = (
        BUILT_IN_VCL.format(port=origin.address.rpartition(":")[2])
        + 'sub vcl_recv { if (req.method == "PURGE") { return (purge); } }\n'
        + "sub vcl_synth { unset resp.http.Server; unset resp.http.X-Varnish;"
        + ' synthetic("gone"); return (deliver); }\n'
    )
    _changed(cache, "varnish.vcl", bare, "")
    return cache


@pytest.mark.parametrize("start", [piping_varnish, passing_nginx])
def test_a_cache_that_passes_purges_on_is_unproven_until_it_is_mended(
    tmp_path: Path, origin: Origin, start: Callable[[Path, Origin], tuple[Cache, Callable[[], None]]]
) -> None:
    cache, mend = start(tmp_path, origin)
    with cache, EngineProcess(tmp_path, node_table(cache, name="edge-1"), due_s=0.5) as engine:
        wait_until(lambda: engine.node("edge-1")["state"] == "unproven")  # without any purge
        assert get_body(cache, "/a.html").startswith(b"v1 ")
        origin.version = "v2"
        task = engine.submit([PAGE])
        found = engine.wait_for(task, "partial", "done")
        assert get_body(cache, "/a.html").startswith(b"v1 ")  # it passed the purge on
        assert (found["state"], found["counter"], found["delayed"]) == ("partial", 0, 1)
        [error] = found["errors"]
        assert error["reason"].startswith("unproven: a server behind edge-1 answered 200")
        node = engine.node("edge-1")
        assert (node["state"], node["evidence"], node["acked"]) == ("unproven", "none", 0)
        assert node["reason"].startswith("unproven: a server behind edge-1 answered 200")
        assert (
            b'purgeline_node_unproven{driver="%s",layer="edge",node="edge-1"} 1.0' % cache.driver.encode()
            in (engine.request("GET", "/metrics")[2])
        )
        mend()
        get_body(cache, "/a.html")
        engine.wait_for(task, "done")
        wait_until(lambda: engine.node("edge-1")["state"] == "ready")
        assert engine.node("edge-1")["evidence"] in {"mark", "shape", "prober"}


def test_the_word_of_the_user_is_evidence(tmp_path: Path, origin: Origin) -> None:
    cache, _ = passing_nginx(tmp_path, origin)
    table = node_table(cache, name="edge-1", evidence="any")
    with cache, EngineProcess(tmp_path, table) as engine:
        assert engine.wait_for(engine.submit([PAGE]))["state"] == "done"
        node = engine.node("edge-1")
        assert (node["state"], node["evidence"]) == ("ready", "any")


def test_a_cache_that_ceases_to_purge_is_unproven_from_its_first_answer_on(
    tmp_path: Path, origin: Origin
) -> None:
    cache = start_varnish(tmp_path, name="edge-1", backend=origin.address)
    with cache, EngineProcess(tmp_path, node_table(cache, name="edge-1"), due_s=0.5) as engine:
        targets = [f"http://img.example.com/{number}" for number in range(3000)]
        assert engine.wait_for(engine.submit(targets))["state"] == "done"
        assert engine.node("edge-1")["state"] == "ready"
        _changed(cache, "varnish.vcl", BUILT_IN_VCL.format(port=origin.address.rpartition(":")[2]), "")
        task_id = engine.submit(targets[:50])
        engine.wait_for(task_id, "partial", "done")
        wait_until(lambda: engine.task(task_id)["delayed"] == 50)
        found = engine.task(task_id)
        assert (found["state"], found["counter"]) == ("partial", 0)
        assert engine.node("edge-1")["state"] == "unproven"


@pytest.mark.parametrize("start", [unmarked_nginx, stripped_varnish])
def test_where_bytes_do_not_tell_a_page_that_waits_proves_the_node(
    tmp_path: Path, origin: Origin, start: Callable[[Path, Origin], Cache]
) -> None:
    with (
        start(tmp_path, origin) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        wait_until(lambda: engine.node("edge-1")["state"] == "unproven")
        assert "nothing shows that edge-1 itself answered" in engine.node("edge-1")["reason"]
        task = engine.submit([PAGE, PAGE + "?2"])
        engine.wait_for(task, "done")
        wait_until(lambda: engine.node("edge-1")["state"] == "ready")
        assert engine.node("edge-1")["evidence"] == "prober"


def test_a_page_that_is_not_stored_proves_nothing_until_the_next_one_does(
    tmp_path: Path, origin: Origin
) -> None:
    origin.headers["Cache-Control"] = "no-store"
    with unmarked_nginx(tmp_path, origin) as cache:
        engine = EngineProcess(tmp_path, node_table(cache, name="edge-1"), due_s=0.3)
        with engine:
            task = engine.submit([PAGE])
            engine.wait_for(task, "partial")
            wait_until(lambda: "a look at" in engine.node("edge-1")["reason"])
            reason = engine.node("edge-1")["reason"]
            assert 'let it send "Purgeline-Cache: nginx edge-1"' in reason
            assert engine.node("edge-1")["delayed"] == 1
        origin.headers.clear()
        with engine:  # what waits in the store is tried after a restart
            engine.wait_for(task, "done")


def test_a_canary_of_the_host_proves_a_node_whose_pages_cannot(tmp_path: Path, origin: Origin) -> None:
    origin.headers["Cache-Control"] = "no-store"
    engine = EngineProcess(tmp_path, "", due_s=5)
    with unmarked_nginx(tmp_path, origin, canary=f"127.0.0.1:{engine.port}") as cache:
        engine.configure("[canary]\ninterval_s = 1000\n" + node_table(cache, name="edge-1"))
        with engine:
            engine.wait_for(engine.submit([PAGE]), "done")
            wait_until(lambda: engine.node("edge-1")["state"] == "ready")
            assert engine.node("edge-1")["evidence"] in {"prober", "shape"}  # of the canaries' purges
            assert not origin.hits  # no page was looked at
