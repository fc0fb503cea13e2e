"""The model: what a task is, in memory and as it is stored. Pure: no I/O, no knowledge of who calls.

What lives here: `words` (actions, kinds, operations, states), `task` (`Task` and `Share`), `plan` (the
nodes of a task), `region` (every task in memory), `records` (what stores hold), `documents` (tasks as
clients see them), `progress` (what another engine needs to go on with a task), `shards` (which region,
saver or slot an id belongs to), and what the history keeps: `settled` (columns), `segments` (records),
`blocks`, `changes` (what became of partial tasks). It may import `engine.base` and `engine.errors`.

In: the intake makes tasks, the delivery changes them. Out: documents and records, to savers and clients.
"""
