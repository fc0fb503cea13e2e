"""Routes beside the fast lane, on aiohttp; and what workers ask each other.

What lives here: finding, listing and cancelling tasks (`FindTask`, `ListTasks`, `CancelTask`), what an engine
shows of itself (`Overview`, `Readiness`), the routes of clients (`app`, `tasks`, `engine_routes`) and those
of the other workers (`worker_api`).

It may import everything below it, intake and cluster included; only `engine.process` imports it.

In: a connection that `engine.intake` hands over, once and for good, or another worker's request. Out: problem
documents or JSON; a task that comes this way goes to `Admission`, as in the fast lane.
"""
