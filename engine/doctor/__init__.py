"""The doctor: whether this machine, its kernel, its disk, its Redis and its caches let an engine do its work.

Checks are functions of what was read (`reader`, `sockets`, `diag`), so each can be tried on values alone;
`examination` reads, and asks them all.
"""
