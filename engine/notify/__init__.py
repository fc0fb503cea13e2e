"""What the engine says on its own: callbacks of settled tasks, and alerts for the operator.

Enters: a callback that the saver has written, an alert of any part (`outbox.Outbox`). Leaves: signed POSTs,
and who added a callback is told when it is over. May import `engine.observe`,
`engine.tasks`, `engine.config` and `engine.base`.
"""
