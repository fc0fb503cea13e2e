"""The embedded store: one SQLite file per saver, of one engine.

`SqliteStore` is the store; `DatabaseFile` the file, its lock, its checks and its connections; `writing` the
statements of one commit; `RowReader` the reading of delay queues. Independent of the other stores.
"""
