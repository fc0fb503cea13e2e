"""Real caches, an origin and a small caching proxy, for the demo, the tests and the benchmarks.

Each runs on a free loopback port, needs no root and does not outlive the process that started it. ``system``
says which system packages are missing, ``environment`` makes environments of Python beside the engine's.
"""
