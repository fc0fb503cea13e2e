"""Routes beside the fast lane, on aiohttp.

Find, list and cancel tasks, the overview, readiness, and the private interface that workers use among
themselves.

Requests enter from `engine.intake` (a connection that is not plain is handed over once and for good) and
leave as problem documents or JSON. May import everything below it; nothing but `engine.process` imports it.
"""
