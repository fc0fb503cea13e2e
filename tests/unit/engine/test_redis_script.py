"""Lua scripts: called by digest, and whole by a server that does not know it; servers that are left alone."""

from __future__ import annotations

import hashlib

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.config.redis_url import parse_redis_url
from engine.store.redis import change_script, history_scripts, member_scripts, missing_rows, scripts
from engine.store.redis.script import Script, with_source
from engine.store.redis.servers import Server


def test_a_script_is_called_by_the_digest_of_its_source() -> None:
    script = Script("return KEYS[1]")
    digest = hashlib.sha1(b"return KEYS[1]").hexdigest()
    assert script.call(["k", "l"], iter(["a"])) == ("EVALSHA", digest, 2, "k", "l", "a")


def test_a_server_that_does_not_know_the_digest_is_sent_the_source() -> None:
    script = Script("return ARGV[1]")
    assert with_source(script.call(["k"], ["a"])) == ("EVAL", "return ARGV[1]", 1, "k", "a")


def test_every_script_has_a_digest_of_its_own() -> None:
    every = [
        script
        for module in (change_script, history_scripts, scripts, member_scripts, missing_rows)
        for script in vars(module).values()
        if isinstance(script, Script)
    ]
    assert len(every) >= 27
    assert len({script.sha for script in every}) == len(every)


def test_a_server_that_has_just_failed_is_not_tried_and_says_why() -> None:
    server = Server(pool=None, name="one", url=parse_redis_url("redis://one"))
    server.check()
    server.fails(OSError("no route"))
    with pytest.raises(RedisConnectionError, match="no route"):
        server.check()
