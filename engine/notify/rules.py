"""Where callbacks may go: the hosts with a ``[[callback]]`` rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from engine.config.tables import CallbackConfig

_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


class CallbackRules:
    """Tells whether a task may name a URL as its callback, and which secret signs what is sent there.

    Args:
        rules: the ``[[callback]]`` tables.
    """

    def __init__(self, rules: list[CallbackConfig]) -> None:
        self._rules = rules

    def allows(self, url: str) -> str | None:
        """Return None when tasks may name *url* as their callback, otherwise what is allowed."""
        if not re.fullmatch(r"[!-\[\]-~]+", url) or "#" in url:
            return "takes printable ASCII without spaces, backslashes or a #fragment"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "takes http(s)://HOST[:PORT]/PATH"
        if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or port == 0:
            return "takes http(s)://HOST[:PORT]/PATH"
        if "@" in parts.netloc:
            return "takes no user name or password"
        if self._of(host) is None:
            hosts = ", ".join(rule.host for rule in self._rules) or "none"
            return f"host {host!r} has no [[callback]] rule; allowed: {hosts}"
        return None

    def secret_for(self, host: str) -> str:
        """Return the secret of the closest rule for *host*; empty without one."""
        rule = self._of(host)
        return rule.secret if rule is not None else ""

    def _of(self, host: str) -> CallbackConfig | None:
        """Return the closest rule: the name itself, then the longest ``*.``, then ``*``."""
        name = f"[{host}]" if ":" in host else host
        fitting = [
            rule
            for rule in self._rules
            if rule.host in {name, "*"} or (rule.host.startswith("*.") and name.endswith(rule.host[1:]))
        ]
        return max(fitting, key=lambda rule: (rule.host == name, len(rule.host)), default=None)
