"""``store.url`` for Redis: what it says, and what is refused."""

import pytest

from engine.config.load import parse
from engine.config.redis_url import RedisUrl, parse_redis_url, without_password
from engine.errors import ConfigError


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
    url = parse_redis_url("redis://me:hush@h")
    assert "hush" not in f"{url} {url!r}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://me:hush@h:1/0", "redis://***@h:1/0"),
        ("rediss://hush@h", "rediss://***@h"),
        ("redis+cluster://:hu/sh@h1,h2", "redis+cluster://***@h1,h2"),
        ("redis:/:hu@sh@h", "redis://***@h"),
        ("redis://h/0?password=hush", "redis://h/0?***"),
        ("redis://h?password=hush#hush", "redis://h?***"),
        ("redis://h#hu/sh", "redis://h#***"),
        ("redis://:hush", "redis://:***"),
        ("redis://me:hush%40h:6379/0", "redis://me:***/0"),
        ("redis://:hush@h,[::1]:7000,i:none", "redis://***@h,[::1]:7000,i:***"),
        ("sqlite:", "sqlite:"),
        ("sqlite", "sqlite"),
    ],
)
def test_a_url_is_shown_without_what_may_be_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:hush/1@h", "redis://:hush?1@h/0", "redis://me:hush#1@h", "redis://:hush@h:none"),
        *("redis://:hush/1@h/2", "redis://:hush@[h", "redis://:hush@h/0/hush", "redis://:hush℀@h"),
        *("redis://h/0?password=hush", "redis://h?hush", "redis://h#hush", "redis://:hush"),
        *("redis://:hush%40h:6379/0", "redis://me:hush%40h", "redis+sentinel://:hush%40h/main"),
        *("redis+sentinel://:hush@h", "redis+cluster://:hush@h/hush", "redis://:hush@h,i"),
    ],
)
def test_no_error_quotes_a_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as error:
        parse_redis_url(url)
    assert "hush" not in str(error.value)
    assert error.value.__cause__ is None
    with pytest.raises(ConfigError) as refusal:
        parse({"store": {"url": url}})
    assert "hush" not in str(refusal.value).replace("/hush'", "'")  # behind the last @ stands no password


def test_a_password_with_a_slash_is_told_how_it_is_written() -> None:
    with pytest.raises(ValueError, match="%2F"):
        parse_redis_url("redis://:hu/sh@h")
    assert parse_redis_url("redis://:hu%2Fsh@h").password == "hu/sh"


@pytest.mark.parametrize(
    "url", ["http://me:hush/1@h", "http://me:hu/sh@h", "http://h:hush", "http://me:hush℀@h"]
)
def test_no_error_about_a_node_quotes_a_password(url: str) -> None:
    node = {"name": "edge-1", "layer": "edge", "driver": "varnish", "url": url}
    with pytest.raises(ConfigError, match="HOST") as refusal:
        parse({"node": [node]})
    assert "hu" not in str(refusal.value).removeprefix("node 'edge-1'")
