"""Commands of the CDNI door: what is refused, and what is not even decoded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from engine.doors.cdni.command import COMMAND_MAX_BYTES, Command, read_command
from engine.doors.cdni.planning import Rules, plan_of
from engine.errors import RequestError

URL = "https://www.example.com/a"


def read(trigger: dict[str, Any] | bytes) -> Command:
    text = trigger if isinstance(trigger, bytes) else json.dumps(trigger).encode()
    return read_command(b'{"cdn-path": ["AS64496:1"], "trigger": %b}' % text, "AS64496:0")


def rules(*hosts: str) -> Rules:
    return Rules(lambda _: True, lambda _: True, hosts)


@pytest.mark.parametrize("hosts", [(), ("www.example.com",)])
@pytest.mark.parametrize("kind", ["purge", "preposition"])
def test_a_malformed_id_is_refused_wherever_it_would_be_purged(kind: str, hosts: tuple[str, ...]) -> None:
    trigger = read({"type": kind, "content.urls": [URL], "content.ccid": ["ok", "two words"]}).trigger
    assert trigger is not None
    with pytest.raises(RequestError, match=r"content\.ccid\[1\].*visible ASCII") as caught:
        plan_of(trigger, rules(*hosts))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (b"5", "trigger: takes an object with a type"),
        ({}, "required field `type`"),
        ({"type": 5}, "trigger.type: expected `str`"),
        ({"type": "purge", "content.urls": [5]}, "content.urls[0]: expected `str`"),
        ({"type": "purge", "content.patterns": [{}]}, "content.patterns[0]: object missing required field"),
        (
            {"type": "purge", "content.patterns": [{"pattern": f"{URL}/*", "case-sensitive": 1}]},
            "content.patterns[0].case-sensitive: expected `bool`",
        ),
        (b'{"type":"purge","content.urls":["%b"],"x":"\xff"}' % URL.encode(), "not JSON"),
    ],
)
def test_what_has_another_form_is_refused_and_named(trigger: dict[str, Any] | bytes, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(trigger)
    assert (caught.value.status, said in caught.value.short) == (400, True), caught.value.short


def test_what_is_not_known_is_kept_as_it_came() -> None:
    command = read(b'{"type":"purge", "content.urls":["%b"],"x.y":{"z": [1.50]}}' % URL.encode())
    assert bytes(command.spec).endswith(b'"x.y":{"z": [1.50]}}')
    unknown = read({"type": "explode", "content.urls": 5}).trigger
    assert unknown is not None
    assert (unknown.type, unknown.count) == ("explode", 0)


@pytest.mark.parametrize(
    ("name", "item", "status"),
    [("x", b"{}", 0), ("content.urls", b'""', 413), ("content.patterns", b'{"pattern":""}', 413)],
)
def test_a_body_of_nearly_nothing_many_times_is_read_in_no_time(name: str, item: bytes, status: int) -> None:
    """Nothing else of a worker runs in the meantime."""
    count = (COMMAND_MAX_BYTES - 200) // (len(item) + 1)
    body = b'{"type":"purge","content.urls":["%b"],"%b":[%b]}' % (
        URL.encode(),
        name.encode(),
        b",".join([item] * count),
    )
    began = time.thread_time()
    try:
        read(body)
    except RequestError as exc:
        assert exc.status == status  # noqa: PT017 - one of the three is taken
    else:
        assert not status
    assert time.thread_time() - began < 0.1


def test_ten_thousand_urls_of_usual_length_fit() -> None:
    urls = [f"{URL}/{number:0>160}" for number in range(10_000)]
    command = read({"type": "purge", "content.urls": urls})
    assert command.trigger is not None
    assert command.trigger.content_urls == urls
    with pytest.raises(RequestError, match="send several") as caught:
        read(b" " * COMMAND_MAX_BYTES)
    assert caught.value.status == 413
