"""Start the real cache servers on loopback ports, for the demo, the tests and the benchmarks.

    with start_varnish(workdir, name="edge-1", backend=origin.address) as edge:
        ...  # edge.url, edge.kill(), edge.start()

The configurations are the files under ``templates/``, the very ones a user takes for his own caches, so
what runs here is what is documented there. ``process`` owns the operating system side (user, group,
signals), ``ports`` finds free ports, ``servers`` knows the four servers.
"""

from release.lab.caches.errors import CacheError
from release.lab.caches.ports import free_port
from release.lab.caches.process import Cache
from release.lab.caches.servers import (
    available,
    start_ats,
    start_cache,
    start_nginx,
    start_squid,
    start_varnish,
)

__all__ = [
    "Cache",
    "CacheError",
    "available",
    "free_port",
    "start_ats",
    "start_cache",
    "start_nginx",
    "start_squid",
    "start_varnish",
]
