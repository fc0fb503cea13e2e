"""The configuration: the tables of ``engine.toml``, how they are read, and what is refused.

``load.load`` takes a TOML file and the environment in; ``checks.check`` refuses what cannot work; a
``tables.Config`` goes out to whoever assembles the engine. ``redis_url`` takes ``store.url`` apart, for the
check and for the store. May import `engine.base` and `engine.errors`.
"""
