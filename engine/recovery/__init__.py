"""Going on with what the journal holds: after a start, and after the worker before this one has gone.

What lives here: `Replay` (in which order, and when) and `ReplayRows` (one row: its tasks go on).

It may import intake and everything below; not api, which is on its floor.

In: `Replay.at_start` and `Replay.take_over`, from `engine.process`; rows that the cluster has taken over.
Out: tasks, to `engine.delivery`, as if they had just been accepted.
"""
