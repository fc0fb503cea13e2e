"""Who may ask for what: bearer tokens, their scopes, hosts and rates.

A token is kept as its SHA-256 only. Every check compares with every token in constant time, so the
time a refusal takes says nothing about how close a guess came.
Measured (CPython 3.11): `Auth.check` 1.3 µs with one token, 0.1 µs more for each further one.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final, get_args

from engine.config.tables import Scope
from engine.errors import RateLimitedError, RequestError
from engine.intake.host_rules import HostRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import AuthConfig, SiteConfig, TokenConfig

ANONYMOUS: Final = "anonymous"  #: everybody, where no tokens are configured


class Token:
    """One client: what it may do, on which hosts, how fast.

    Attributes:
        name: as in the configuration; for logs and errors.
        scopes: what it may do.
        hosts: its sites within the engine's sites.
        is_limited: it has sites of its own, so its client sees and cancels only the tasks it handed in.
    """

    __slots__ = (
        "_burst",
        "_clock",
        "_filled_at",
        "_left",
        "_rate_per_s",
        "hosts",
        "is_limited",
        "name",
        "scopes",
    )

    def __init__(
        self,
        name: str,
        scopes: frozenset[str],
        hosts: HostRules,
        *,
        rate_per_s: float = 0,
        burst_count: int = 0,
        is_limited: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_limited = is_limited
        self.scopes = scopes
        self.hosts = hosts
        self._rate_per_s = rate_per_s
        self._burst = float(burst_count) or max(1.0, rate_per_s)
        self._left = self._burst
        self._clock = clock
        self._filled_at = clock()

    @property
    def sees_only(self) -> str | None:
        """The name of the token whose tasks alone this client may see and cancel; None: it may all."""
        return self.name if self.is_limited and "admin" not in self.scopes else None

    def may_see(self, submitter: str) -> bool:
        """Return whether this client may see and cancel the tasks of the token named *submitter*."""
        return self.sees_only in {None, submitter}

    def take(self, n: int = 1) -> None:
        """Spend *n* tasks of the rate.

        A request for more than a whole burst is let through when the bucket is full, and paid off after.

        Raises:
            RateLimitedError: the rate is used up; carries the exact wait. Nothing was spent.
        """
        if not self._rate_per_s:
            return
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        missing = min(n, self._burst) - self._left
        if missing > 1e-9:  # noqa: PLR2004 - a wait to the second, summed in floats, must be enough
            raise RateLimitedError(self.name, retry_after_s=missing / self._rate_per_s)
        self._left -= n


class Auth:
    """Finds the token of a request.

    Args:
        config: the tokens; none means that everybody is ``anonymous``, with every scope.
        sites: the engine's sites; none means every host.
        clock: monotonic seconds, for the rates.
    """

    def __init__(
        self, config: AuthConfig, sites: list[SiteConfig], clock: Callable[[], float] = time.monotonic
    ) -> None:
        hosts = HostRules([site.host for site in sites])
        self._tokens = [(bytes.fromhex(token.sha256), _make(token, hosts, clock)) for token in config.tokens]
        self._anonymous = Token(ANONYMOUS, frozenset(get_args(Scope)), hosts)

    @property
    def is_open(self) -> bool:
        """Whether there are no tokens, so that everybody may do everything."""
        return not self._tokens

    def named(self, name: str) -> Token:
        """Return a token by its name: another worker, which asks, has checked that the client has it.

        Raises:
            RequestError: 403, this worker's configuration has no such token.
        """
        for token in (self._anonymous, *(token for _, token in self._tokens)):
            if token.name == name and (token is not self._anonymous or not self._tokens):
                return token
        raise RequestError(403, f"token {name!r} is not in this engine's configuration any more")

    def check(self, authorization: str | bytes | None, scope: Scope) -> Token:
        """Return the token of an ``Authorization`` header.

        Raises:
            RequestError: 401 when there is no bearer token or nobody has it; 403 when it has not
                the *scope*.
        """
        if not self._tokens:
            return self._anonymous
        if isinstance(authorization, str):
            authorization = authorization.encode("utf-8", "surrogateescape")
        if not authorization or authorization[:7].lower() != b"bearer ":
            raise _unauthorized("authorization: takes 'Bearer TOKEN'", "Bearer")
        holder = self._holder(authorization)
        if holder is None:
            raise _unauthorized("authorization: this bearer token is unknown", 'Bearer error="invalid_token"')
        return self.with_scope(holder, scope)

    def with_scope(self, token: Token, scope: Scope) -> Token:
        """Return a token that has a scope.

        Raises:
            RequestError: 403, it has not.
        """
        if scope not in token.scopes:
            raise _forbidden(token, scope)
        return token

    def name_of(self, authorization: str | bytes | None) -> str:
        """Return the name of the token that a request has, whatever its scopes; empty: it has none."""
        if not self._tokens:
            return self._anonymous.name
        if isinstance(authorization, str):
            authorization = authorization.encode("utf-8", "surrogateescape")
        holder = self._holder(authorization or b"")
        return "" if holder is None else holder.name

    def _holder(self, authorization: bytes) -> Token | None:
        digest = hashlib.sha256(authorization[7:].strip()).digest()
        holder: Token | None = None
        for expected, token in self._tokens:
            if hmac.compare_digest(digest, expected):
                holder = token  # and on through the rest, see the module's docstring
        return holder


def _make(token: TokenConfig, hosts: HostRules, clock: Callable[[], float]) -> Token:
    return Token(
        token.name,
        frozenset(token.scopes),
        HostRules(token.sites, within=hosts),
        rate_per_s=token.rate_per_s,
        burst_count=token.burst_count,
        is_limited=bool(token.sites),
        clock=clock,
    )


def _unauthorized(detail: str, challenge: str) -> RequestError:
    return RequestError(401, detail, headers={"WWW-Authenticate": challenge})


def _forbidden(token: Token, scope: Scope) -> RequestError:
    has = ", ".join(sorted(token.scopes)) or "none"
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return RequestError(
        403,
        f"token {token.name!r} has not the scope {scope!r}; it has: {has}",
        headers={"WWW-Authenticate": challenge},
    )
