"""What visitors get, beside what the engine was told: verification, canaries, `why`, receipts.

Enters: a share that was acked, a question about a URL. The `visitor` asks a node as its visitors do, the
`origins` are asked for the truth (`truth`), and `comparison` decides.
`canaries` are objects of the engine's own: each is filled, changed, purged by the way that clients' purges
take, and looked at again, on every node, parents before edges (`canary_round`, `canary_purge`). What came of
them (`canary_results`) is shared by the engines of one store (`canary_store`).

Leaves: what was found, to the task, to clients and to operators.

Only configured nodes and origins are asked, whatever a client names: a target gives the host and the path.
May import `engine.cluster`, `engine.intake` and what lies below them; never `engine.api`.
"""
