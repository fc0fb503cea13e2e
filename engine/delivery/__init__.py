"""From the stored task to its nodes, and from answers to the end of the task.

- `dispatch`: the hot path; tasks in (`inbox`, `expansion`), answers folded, children released, retries;
- `load`: the count of live subtasks, which the intake reserves room in;
- `endings`: what happens when a task is over, due, cancelled or another engine's; `journal_rows` go with it;
- `parking`: subtasks of nodes that are down become rows of delay queues;
- `queues`: what is known of those rows; `redelivery` empties them, a `chunk` at a time, and `late` folds what
  became of each row; `sent` tells which rows were settled by the request of another, and `later` keeps
  the time of the next look;
- `node_events`: what a node's state means for operators and for its delay queue;
- `parts`: all of them, wired together.

Tasks enter from `engine.intake` through `Dispatch.submit` once they are stored; subtasks leave to
`engine.nodes` and come back as answers through `Dispatch.acked` and its like; documents, rows and callbacks
leave to `engine.saver`. May import nodes, saver, store, notify, observe and what lies below.
"""
