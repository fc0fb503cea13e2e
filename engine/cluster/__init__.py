"""Engines that share one Redis: who lives, who leads, and taking over what an engine left behind.

What lives here: `Cluster` (from `join` to `leave`), `Membership`, `Rounds` (the regular work: `Watch`,
`Takeover`, `Leader`), `ReplicationWatch`, `Inbox`, `QueueClaims` (whose is a node's delay queue),
`KeptElsewhere` (rows in the memory of other engines), `FetchRegister` (prefetches that engines have under
way: `fetch_writer`, `fetch_looks`, `fetch_mirror`), and their threads.

It may import delivery, notify, saver, store, observe and what lies below; not intake, which is on its floor.
What begins with tasks that are taken over is handed in (`takeover.Rows`).

In: `Cluster.join`, from `engine.process` at the start; messages of other engines. Out: tasks, to their rows'
replay; claims, asked by the delay queues; the register, used by the nodes.
"""
