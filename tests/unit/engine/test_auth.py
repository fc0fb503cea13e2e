"""Bearer tokens, scopes and rates."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from engine.config.tables import AuthConfig, SiteConfig, TokenConfig
from engine.errors import RateLimitedError, RequestError
from engine.intake.auth import Auth, Token
from engine.intake.host_rules import HostRules


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def config(name: str, secret: str, **options: Any) -> TokenConfig:
    return TokenConfig(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), **options)


@pytest.fixture
def auth() -> Auth:
    tokens = [
        config("ci", "s3cret", scopes=["submit"], sites=["img.example.com"]),
        config("ops", "ädmin", scopes=["submit", "read", "admin"]),
    ]
    return Auth(AuthConfig(tokens=tokens), [SiteConfig(host="*.example.com")])


@pytest.mark.parametrize("header", ["Bearer s3cret", b"Bearer s3cret", "bearer  s3cret ", b"BEARER s3cret"])
def test_known_token(auth: Auth, header: str | bytes) -> None:
    """As text or bytes, the scheme in any case; the token carries its sites within the engine's."""
    token = auth.check(header, "submit")
    assert token.name == "ci"
    assert token.scopes == frozenset({"submit"})
    assert token.hosts.allows("img.example.com")
    assert not token.hosts.allows("www.example.com")
    assert auth.check("Bearer ädmin", "admin").hosts.allows("www.example.com")
    assert not auth.check("Bearer ädmin", "admin").hosts.allows("example.org")


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (None, "takes 'Bearer TOKEN'"),
        ("", "takes 'Bearer TOKEN'"),
        ("Basic czNjcmV0", "takes 'Bearer TOKEN'"),
        ("s3cret", "takes 'Bearer TOKEN'"),
        ("Bearer", "takes 'Bearer TOKEN'"),
        ("Bearer ", "unknown"),
        ("Bearer s3crets", "unknown"),
        (b"Bearer \xff\x00", "unknown"),
        ("Bearer \udcff\udc80", "unknown"),
    ],
)
def test_no_or_unknown_token_is_401(auth: Auth, header: str | bytes | None, detail: str) -> None:
    """The answer asks for a bearer token and never repeats what was sent."""
    with pytest.raises(RequestError, match=detail) as caught:
        auth.check(header, "read")
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert "s3cret" not in caught.value.detail


def test_wrong_scope_is_403_and_says_which_it_has(auth: Auth) -> None:
    """The client learns what to ask its operator for."""
    with pytest.raises(RequestError, match=r"'ci' has not the scope 'admin'; it has: submit") as caught:
        auth.check("Bearer s3cret", "admin")
    assert caught.value.status == 403
    assert 'scope="admin"' in caught.value.headers["WWW-Authenticate"]


def test_every_token_is_compared(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit on the first token is no faster than one on the last."""
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def noting(ours: bytes, theirs: bytes) -> bool:
        compared.append(theirs)
        return compare(ours, theirs)

    monkeypatch.setattr("hmac.compare_digest", noting)
    assert auth.check("Bearer s3cret", "submit").name == "ci"
    assert len(compared) == 2


@pytest.mark.parametrize("header", [None, "Bearer whatever"])
def test_without_tokens_everybody_is_anonymous(header: str | None) -> None:
    """Allowed on a loopback listener only, which config.py sees to. The sites hold all the same."""
    token = Auth(AuthConfig(), [SiteConfig(host="a.org")]).check(header, "admin")
    assert token.name == "anonymous"
    assert token.scopes == frozenset({"submit", "read", "admin"})
    assert token.hosts.allows("a.org")
    assert not token.hosts.allows("b.org")
    for _ in range(1000):
        token.take()


def test_rate_has_a_burst_and_an_exact_wait() -> None:
    """After the burst one task per 1/rate; the wait that the error names is long enough, and no longer."""
    clock = Clock()
    token = Token("ci", frozenset(), HostRules([]), rate_per_s=4, burst_count=2, clock=clock)
    token.take()
    token.take()
    with pytest.raises(RateLimitedError, match=r"retry in 0\.2 s") as caught:
        token.take()
    assert caught.value.headers["Retry-After"] == "1"
    clock.now += 0.24
    with pytest.raises(RateLimitedError):
        token.take()
    clock.now += 0.01
    token.take()


def test_rate_default_burst_is_one_second() -> None:
    """And at least one task, for rates below one per second."""
    clock = Clock()
    token = Token("ci", frozenset(), HostRules([]), rate_per_s=5, clock=clock)
    token.take(5)
    with pytest.raises(RateLimitedError):
        token.take()
    slow = Token("ci", frozenset(), HostRules([]), rate_per_s=0.1, clock=clock)
    slow.take()
    clock.now += 9.9
    with pytest.raises(RateLimitedError):
        slow.take()
    clock.now += 0.1
    slow.take()


def test_more_than_the_burst_is_paid_off_after() -> None:
    """Otherwise a batch above the burst could never pass."""
    clock = Clock()
    token = Token("ci", frozenset(), HostRules([]), rate_per_s=10, clock=clock)
    token.take(30)
    clock.now += 2
    with pytest.raises(RateLimitedError, match=r"retry in 0\.1 s"):
        token.take()
    clock.now += 0.1
    token.take()


def test_rate_is_shared_by_the_requests_of_one_token() -> None:
    """`check` returns the same token each time, so the bucket is one."""
    clock = Clock()
    tokens = [config("ci", "s3cret", rate_per_s=1, burst_count=1)]
    auth = Auth(AuthConfig(tokens=tokens), [], clock)
    auth.check("Bearer s3cret", "submit").take()
    with pytest.raises(RateLimitedError, match="'ci'"):
        auth.check("Bearer s3cret", "submit").take()
