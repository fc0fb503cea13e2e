"""``store.url`` for Redis: what it says, and what is refused."""

import pytest

from engine.config.redis_url import RedisUrl, parse_redis_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://localhost", RedisUrl("single", [("localhost", 6379)])),
        ("redis://[::1]:7000/3", RedisUrl("single", [("::1", 7000)], 3)),
        ("rediss://u:p%40ss@h/0", RedisUrl("single", [("h", 6379)], 0, "", "u", "p@ss", has_tls=True)),
        ("redis://secret@h", RedisUrl("single", [("h", 6379)], password="secret")),
        (
            "redis+sentinel://a,b:1/main/2",
            RedisUrl("sentinel", [("a", 26379), ("b", 1)], 2, "main"),
        ),
        ("redis+cluster://a:7000,b", RedisUrl("cluster", [("a", 7000), ("b", 6379)])),
    ],
)
def test_a_url_is_taken_apart(text: str, expected: RedisUrl) -> None:
    assert parse_redis_url(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://a", "takes redis://"),
        ("redis:a", "takes redis://"),
        ("redis://", "HOST"),
        ("redis://a:0", "HOST"),
        ("redis://a:99999", "HOST"),
        ("redis://a,b", "one server"),
        ("redis://a/one", "database"),
        ("redis://a/1/2", "database"),
        ("redis://a?ssl=1", "query"),
        ("redis+sentinel://a", "service"),
        ("redis+cluster://a/1", "database 0"),
    ],
)
def test_a_url_that_is_none_is_refused_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_redis_url(text)


def test_it_is_shown_without_its_password() -> None:
    assert "hush" not in str(parse_redis_url("redis://me:hush@h"))
