"""The port: listening, HTTP heads, the fast lane; and what a task must be to be accepted.

Clients enter here; an accepted task leaves to `engine.saver` and, once stored, to `engine.delivery`.
May import delivery, workers and what lies below.
"""
