"""Counters, meters, the Prometheus page, logs with a formatter that can be swapped."""
