"""The Prometheus page of many nodes, beside an engine's other work."""

import asyncio
from pathlib import Path

from tests.fakes.node import FakeNode
from tests.rigs import engine_in_loop


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
