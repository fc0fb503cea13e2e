"""Engines that share one Redis: membership, leader, takeover of what an engine left behind.

Enters from `engine.process` at the start, leaves to `engine.intake` and `engine.delivery` with the tasks
that are taken over. May import everything below it.
"""
