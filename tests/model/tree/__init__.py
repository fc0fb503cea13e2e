"""A tree of real engines with real caches at its leaves, and everything between them that can fail.

``python -m tests.model --processes --tree`` makes rounds (`storm`): a root, three regions below it, three
engines below each, and below each of those a cache: Varnish, nginx, ATS or Squid. Clients hand tasks in at
the root, and read its documents, without pause, while faults of a timetable (`timetable`, told by the seed)
happen to engines, to links, to the Redis of one region and to caches; then all is mended, and what became
of each task is judged. Engines run in namespaces of a private network, see `tests.model.fleet.network`; a
relay before each cache writes every purge down.
"""
