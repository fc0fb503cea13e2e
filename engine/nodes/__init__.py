"""One cache server at work.

`node.Node` stands for it: its configuration, its `health` (the state), and a `channel` each for purges and
prefetches, which owns the queue and the connections of that purpose. Beside them: what its answers mean
(`readings`), what it refuses or is not sent for a while (`holds`, `keeping`), which requests may be what ends
its connections (`suspects`), which ones went wrong too often and wait (`postponed`), whether its answers
count (`proving`: the `judge` of each answer, the `probe`, and the `prober` where bytes do not tell), and
whether an acked purge does (`counting`): not `beside` a prefetch that is `underway`, from here, from another
process of this engine (`elsewhere`, on the `board`) or from another engine (`register`).
`canary` makes what shows whether a cache drops what it is told to, on a page of nobody (`canary_look`).
`lookups` see which cache a node's name stands for, `drivers` know how each cache is asked, `wire` reads what
it answers. `inspection` asks a node once, for an operator who sets a cache up, and for the prober.

Subtasks enter from `engine.delivery` through `Node.add` and leave to the cache; answers come back through
`Connection`, `Channel` and `Node.answered` to `sink.Outcomes`, which the delivery implements. Each of these
steps is one call for each read of answers or fill of a pipeline, never one for each subtask. May import
observe, tasks, config and base.
"""
