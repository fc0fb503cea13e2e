"""Where tasks are saved: the interface that savers and the engine use, and the records it takes.

A store is written by one saver thread, in batches; a batch is one transaction. It is read by other
threads. What it holds:

- the *journal*: accepted tasks as the clients sent them, a few rows per batch, until all of a row
  have settled; after a crash they are worked again;
- *task documents* of what has settled or is only waiting for unreachable nodes;
- the *delay queues*: subtasks of unreachable nodes, oldest first;
- *callbacks* that have not been delivered.

Two kinds. The *embedded* one (SQLite) belongs to one engine: rows of a delay queue are written as soon as
their node is down, while their task may still be in that engine's memory. A *shared* one (Redis) is worked
by many: there a task is an engine's as long as it is in its memory, and everybody's from the moment its
document and its rows are written, which is one step. So no two engines ever count for one task.
"""
