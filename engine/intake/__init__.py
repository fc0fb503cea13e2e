"""The port of the engine, and what a task must be to be accepted.

Enters: a connection that waits at the `listener`. The `fast_lane` reads it (`heads`, `incoming`, `slot`,
`replies`) until it hands it to the `aiohttp_lane`; the `gate` knows all that are open. Both lanes ask `auth`,
and give a body to `admission`: `drafting` has tasks made of it (`lines`, `validate`, `task_body`, `topology`,
`targets`, `urls`, `host_rules`), `room` lets them wait, `forwarding` asks the other workers.
Leaves: the task, to its saver; once it is stored, its answer to the client (`task_replies`, `problems`), and
the task to `engine.delivery`.

May import `engine.delivery`, `engine.workers` and what lies below them; never `engine.cluster`.
"""
