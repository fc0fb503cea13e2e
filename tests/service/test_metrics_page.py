"""The Prometheus page of a running engine: what it tells, and of many nodes, beside other work."""

import asyncio
import http.client
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.node import FakeNode
from tests.rigs import engine_in_loop
from tests.waiting import until


def values_of(page: bytes) -> dict[str, float]:
    """Return the values of a page, by name and the values of labels."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def _ask(port: int, method: str, path: str, body: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_a_running_engine_tells_of_its_port_its_store_and_itself(tmp_path: Path) -> None:
    """Both lanes' answers by status, commits, the wait for the GIL, the loop's lag, a node's requests."""

    async def scenario() -> None:
        with FakeNode() as edge:
            async with engine_in_loop.running(tmp_path, edge.url) as (engine, port):
                stats, body = engine.parts.core.stats, '{"action": "purge", "targets": ["http://a.com/x"]}'
                assert await asyncio.to_thread(_ask, port, "POST", "/v1/engine/task", body) == 202
                assert await asyncio.to_thread(_ask, port, "POST", "/v1/engine/task", "{") == 400
                assert await asyncio.to_thread(_ask, port, "GET", "/nothing") == 404
                await until(lambda: stats.tasks_done == 1)
                await until(lambda: sum(stats.loop_lag_s.counts) > 0)
                values = values_of(await engine.parts.overview.all_metrics())
                assert values["purgeline_responses_total http 202"] == 1
                assert values["purgeline_responses_total http 400"] == 1
                assert values["purgeline_responses_total http 404"] == 1
                assert values["purgeline_commit_seconds_count"] >= 2
                assert values["purgeline_gil_wait_seconds_count"] == values["purgeline_commit_seconds_count"]
                assert values["purgeline_store_bytes"] > 4096
                assert values["purgeline_store_failing"] == 0
                assert values["purgeline_node_acked_total ats edge edge-1"] == 1
                assert "purgeline_redis_up" not in values, "its store is no Redis"

    engine_in_loop.run(scenario)


def test_purges_go_on_while_the_page_of_many_nodes_is_made(tmp_path: Path) -> None:
    """The loop turns meanwhile: that of 1,000 nodes takes half a second."""

    async def scenario() -> None:
        with FakeNode() as edge:
            async with engine_in_loop.running(tmp_path, edge.url) as (engine, _):
                for number in range(300):
                    engine.parts.core.stats.node_histogram(f"edge-{number}").observe(0.1)
                made = asyncio.ensure_future(engine.parts.overview.all_metrics())
                turns = 0
                while not made.done():
                    turns += 1
                    await asyncio.sleep(0)
                assert turns > 20
                assert b'purgeline_node_seconds_sum{node="edge-299"} 0.1' in made.result()

    engine_in_loop.run(scenario)
