"""Where tasks are saved: the interface that savers and the engine use (`store.Store`), and the stores.

A store is written by one saver thread, in batches; a batch is one transaction. It is read by other threads.
A store holds (`engine.tasks.records`):

- the *journal*: accepted tasks as the clients sent them, a few rows per batch; a row stays until all of
  its tasks have settled, and after a crash its tasks are worked again;
- *task documents* of tasks that have settled or only wait for unreachable nodes;
- the *delay queues*: subtasks of unreachable nodes, oldest first;
- *callbacks* that have not been delivered;
- the *history* (`engine.store.history`): settled tasks with all of their targets, in blocks.

There are two kinds. The *embedded* one (`sqlite`) belongs to one engine: the rows of a delay queue are
written as soon as their node is down, while their task may still be in that engine's memory. A *shared* one
(`redis`) is worked by many engines: a task belongs to one engine as long as it is in that engine's memory,
and to every engine from the moment its document and its rows are written, which is one step. So no two
engines ever count for one task.

The room may import the model, the configuration and what is below; the stores know nothing of each other.
In: `Store.commit` on saver threads, the reading methods on reader threads. Out: to disk or to Redis.
"""
