"""Engines of one cluster, for tests: they share a Redis and the same caches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes.log_cache import LogCache
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table


def cluster_engine(
    folder: Path,
    url: str,
    caches: Sequence[LogCache | FakeNode],
    *,
    number: int = 0,
    store: str = "",
    more: str = "",
    **engine: Any,
) -> EngineProcess:
    """Return an engine that is not started yet.

    Args:
        folder: of the test; the engine's own one is made in there.
        url: of the Redis.
        caches: nodes; one that has an address for each engine is reached at this one's.
        number: of the engine.
        store: more lines of the ``[store]`` table.
        more: further tables.
        engine: keys of ``[engine]``.
    """
    own = folder / f"engine-{number}"
    own.mkdir(exist_ok=True)
    nodes = "".join(
        fake_table(cache.url(number), name=cache.name)
        if isinstance(cache, LogCache)
        else fake_table(cache.url, name=f"edge-{place}")
        for place, cache in enumerate(caches, start=1)
    )
    tables = f'[store]\nurl = "{url}"\ntimeout_s = 1\n{store}\n[[layer]]\nname = "edge"\n' + nodes + more
    return EngineProcess(own, tables, **{"name": f"engine-{number}", "drain_timeout_s": 5, **engine})
