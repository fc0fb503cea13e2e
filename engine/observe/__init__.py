"""What the engine shows of itself: counters and meters, the Prometheus page, log lines.

Enters: counts and durations of every part, log records of loguru and the standard library. Leaves: the
statistics document, the page of ``/metrics``, lines on standard error; `merged` makes one of what several
workers show. May import `engine.tasks` (the words), `engine.config` and `engine.base`.
"""
