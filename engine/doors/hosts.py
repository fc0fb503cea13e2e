r"""Whose objects a purge is about, where its client speaks to a cache and not to a site.

Clients send ``Host: www.example.com`` or the cache's own name, an address, or nothing; some name hosts in a
field of their own, as a regular expression. What tells no site is replaced by ``default_hosts``, or, for what
a cache drops whatever its host (tags, expressions), by every host that the door's token may purge.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final

from engine.errors import RequestError
from engine.intake.host_rules import without_port
from engine.intake.urls import normalise_authority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ALL: Final = frozenset({"", ".*", "^.*$", "^.*", ".*$"})
_LIST: Final = re.compile(r"\^?(?:\((?:\?:)?([^()]*)\)|([^()|]*))\$?")
_NAME: Final = re.compile(r"(\.\*|\*)?(\\?\.)?((?:[A-Za-z0-9_-]|\\?[.-])+(?::[0-9]{1,5})?)")


class Hosts:
    """The hosts of one door.

    Args:
        allows: whether the door's token may purge a host.
        rules: every host that it may purge, see `every_host`; None: any.
        defaults: ``default_hosts``.
        own: names that clients have for the door; None: they know no door, and each name is that of a site.
        port: of the door.
    """

    def __init__(
        self,
        allows: Callable[[str], bool],
        rules: Sequence[str] | None,
        *,
        defaults: Sequence[str],
        own: Sequence[str] | None,
        port: int = 0,
    ) -> None:
        self._allows = allows
        self._rules = rules
        self._defaults = list(defaults)
        self._has_own = own is not None
        self._own = {"localhost", socket.gethostname().lower(), *(name.lower() for name in own or ())}
        self._own_port = f":{port}"
        self._known: dict[tuple[str, str], list[str]] = {}

    def named(self, authority: str, host: str) -> list[str]:
        """Return the hosts that a request names; those of ``default_hosts`` where it names none.

        Args:
            authority: of a request line with a whole URL; empty: it has a path.
            host: value of ``Host``; empty without one.

        Raises:
            RequestError: 400, 403.
        """
        known = self._known.get((authority, host))
        if known is None:
            known = self._site_of(authority) or self._site_of(host) or self._defaults
            if not known:
                detail = (
                    f"host: {host or authority!r} names no site; send Host, or set default_hosts of the door"
                )
                raise RequestError(400, detail)
            if len(self._known) >= 1024:  # noqa: PLR2004 - names that clients choose
                self._known.clear()
            self._known[authority, host] = known
        return known

    def all(self, authority: str, host: str) -> list[str]:
        """Return every host that the token may purge; where that is any host, those that the request names.

        Raises:
            RequestError: 400, 403.
        """
        if self._rules is None:
            return self.named(authority, host)
        self._site_of(authority)
        self._site_of(host)
        return list(self._rules)

    def named_or_all(self, authority: str, host: str) -> list[str]:
        """Return the hosts that a request names; where it names none, every host that the token may purge.

        Raises:
            RequestError: 400, 403.
        """
        return self._site_of(authority) or self._site_of(host) or self.all(authority, host)

    def matching(self, pattern: str, authority: str, host: str, *, is_exact: bool = False) -> list[str]:
        """Return the hosts that an expression stands for, which is one name, a list of names, or all.

        Args:
            pattern: the expression.
            authority: of a request line with a whole URL; empty: it has a path.
            host: value of ``Host``; empty without one.
            is_exact: the expression is taken by its letter, so ``www.a.org`` has to be anchored; otherwise it
                is the name that clients mean by it.

        Raises:
            RequestError: 400 when it is more than that; 403.
        """
        if pattern in _ALL:
            return self.all(authority, host)
        whole = _LIST.fullmatch(pattern)
        is_begun, is_ended = pattern.startswith("^"), pattern.endswith("$")
        texts = (whole[1] or whole[2] or "").split("|") if whole else [""]
        names = [_name_of(text, is_begun=is_begun, is_ended=is_ended, is_exact=is_exact) for text in texts]
        if not all(names):
            takes = "a name" if not is_exact else "a name with both its ends, such as ^www\\.example\\.com$"
            listed = "a list such as ^(a\\.example\\.com|b\\.example\\.com)$"
            raise RequestError(400, f"host: {pattern[:100]!r}: takes {takes}, {listed}, or .* for all")
        return [self._allowed(normalise_authority(name, "x-host", takes_pattern=True)) for name in names]

    def _site_of(self, text: str) -> list[str]:
        """Return the site that a name is of; nothing when it is the door's own name, or an address.

        Raises:
            RequestError: 403, it is one that the token may not purge.
        """
        if not text:
            return []
        host = normalise_authority(text.removesuffix(self._own_port), "host")
        name = without_port(host)
        is_own = self._has_own and (name in self._own or _is_address(name))
        if is_own and (self._rules is None or self._defaults or not self._allows(host)):
            return []
        return [self._allowed(host)]

    def _allowed(self, host: str) -> str:
        if not self._allows(host):
            raise RequestError(403, f"host: {host!r} is not among the sites that this door may purge")
        return host


def every_host(sites: Sequence[str], within: Sequence[str]) -> list[str] | None:
    """Return the host rules that two lists of rules both allow, each once; None: any host.

    Args:
        sites: of a token; none: every host.
        within: of the engine; none: every host.
    """
    ours, theirs = list(sites) or ["*"], list(within) or ["*"]
    both = [rule for rule in ours if any(_covers(other, rule) for other in theirs)]
    both += [rule for rule in theirs if any(_covers(other, rule) for other in ours)]
    if "*" in both:
        return None
    each = list(dict.fromkeys(both))
    return [rule for rule in each if not any(_covers(other, rule) for other in each if other != rule)]


def _covers(rule: str, other: str) -> bool:
    """Tell whether a rule allows all that another one does."""
    if rule in {"*", other}:
        return True
    return rule.startswith("*.") and other.removeprefix("*").endswith(rule[1:]) and other != rule[2:]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _name_of(text: str, *, is_begun: bool, is_ended: bool, is_exact: bool) -> str:
    """Return the name, or pattern of names, that an expression for one host stands for; empty: none.

    Args:
        text: one of the list's.
        is_begun: the list is anchored in front.
        is_ended: the list is anchored behind.
        is_exact: see `Hosts.matching`.
    """
    is_begun, is_ended = is_begun or text.startswith("^"), is_ended or text.endswith("$")
    match = _NAME.fullmatch(text.removeprefix("^").removesuffix("$"))
    if match is None or match[3].endswith(".") or (match[1] and not match[2]):
        return ""
    is_wide = bool(match[1] or match[2])  # what begins with a dot ends the names of subdomains
    if (is_wide and is_begun and not match[1]) or (is_exact and not (is_ended and (is_begun or is_wide))):
        return ""
    return ("*." if is_wide else "") + match[3].replace("\\", "")
