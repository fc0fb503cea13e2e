"""One cache server: drivers, the wire, its queue, its connections, its state.

Subtasks enter from `engine.delivery` and leave to the cache; answers go back the same way. May import
observe, tasks, config and base.
"""
