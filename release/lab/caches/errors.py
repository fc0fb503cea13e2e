"""What goes wrong with a cache server."""


class CacheError(Exception):
    """A cache server is missing, did not start or did not stop.

    Args:
        name: of the cache, e.g. ``"edge-1"``.
        reason: what happened.
        log: last lines of its logs.
    """

    def __init__(self, name: str, reason: str, *, log: str = "") -> None:
        super().__init__(f"{name}: {reason}" + (f"; its last log lines:\n{log}" if log else ""))
        self.name = name
        self.log = log
