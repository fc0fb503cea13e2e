"""What a message of varnish-towncrier asks for. Pure.

``{"command": "purge", "host": "www.example.com", "value": ["/a"]}``: a ``purge`` has paths, ``xkey`` and
``xkey.soft`` surrogate keys, ``ban.url`` patterns of paths, ``ban`` expressions of Varnish (see `bans`). What
its agent does with them is done here for all nodes: keys belong to no host, as in its VCL, and so they are
purged on every host that the door's token may purge. Other fields are not looked at, as there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from engine.doors.asked import Asked
from engine.doors.redis.bans import EVERY_PATH, of_ban, of_pattern
from engine.errors import RequestError
from engine.intake.task_body import TARGETS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.doors.hosts import Hosts

COMMANDS: Final = ("purge", "xkey", "xkey.soft", "ban.url", "ban")
_BANS_MAX: Final = 100  #: expressions of one message; each is a task
_TARGETS_MAX: Final = 10 * TARGETS_MAX  #: values of one message, on all of their hosts
_WORDS: Final = re.compile(r"[\s,]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TAKES: Final = 'takes {"command": "purge", "host": "www.example.com", "value": ["/a"]}'


class Message(msgspec.Struct, frozen=True):
    """A message as it is published."""

    command: str
    value: list[str]
    host: str = ""


_decode: Final = msgspec.json.Decoder(Message).decode


def understand(body: bytes, hosts: Hosts) -> list[Asked]:
    """Return what a message asks for.

    Args:
        body: JSON.
        hosts: that may be purged.

    Raises:
        RequestError: 400, 403, 422; the text names what is wrong and what would be right.
    """
    try:
        message = _decode(body)
    except msgspec.ValidationError as exc:
        raise RequestError(422, f"the message: {_lower(str(exc)[:200])}; {_TAKES}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError(400, f"the message is not valid JSON: {exc}; {_TAKES}") from None
    if not 1 <= len(message.value) <= TARGETS_MAX:
        raise RequestError(422, f"value: takes 1-{TARGETS_MAX} texts, got {len(message.value)}")
    match message.command:
        case "purge":
            named = hosts.named("", message.host)
            _check_count(len(message.value), named)
            return [Asked("url", [f"http://{host}{_path(one)}" for host in named for one in message.value])]
        case "xkey" | "xkey.soft":
            return [_keys(message, hosts.all("", message.host))]
        case "ban.url":
            return _patterns(message.value, hosts.named_or_all("", message.host))
        case "ban":
            if len(message.value) > _BANS_MAX:
                raise RequestError(422, f"value: takes 1-{_BANS_MAX} expressions, got {len(message.value)}")
            return [of_ban(one, message.host, hosts) for one in message.value]
    detail = f"command: {message.command[:40]!r} is none; takes {', '.join(COMMANDS)}"
    raise RequestError(422, detail, field="command")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _path(text: str) -> str:
    """Return a path; one without the slash that it begins with gets it, as the agent's own requests do."""
    if not text or "#" in text or _SCHEME.match(text):
        raise RequestError(422, f"value: {text[:100]!r} is no path, such as /news/1?page=2", field="value")
    return text if text.startswith("/") else f"/{text}"


def _check_count(count: int, hosts: Sequence[str]) -> None:
    if count * len(hosts) > _TARGETS_MAX:
        detail = f"value: {count} on {len(hosts)} hosts are over {_TARGETS_MAX} targets; send fewer at a time"
        raise RequestError(422, detail, field="value")


def _keys(message: Message, everywhere: Sequence[str]) -> Asked:
    keys = list(dict.fromkeys(word for one in message.value for word in _WORDS.split(one) if word))
    if not 1 <= len(keys) <= TARGETS_MAX:
        raise RequestError(422, f"value: takes 1-{TARGETS_MAX} keys, got {len(keys)}", field="value")
    _check_count(len(keys), everywhere)
    targets = [{"host": host, "key": key} for host in everywhere for key in keys]
    return Asked("key", targets, message.command == "xkey.soft")


def _patterns(patterns: Sequence[str], everywhere: list[str]) -> list[Asked]:
    """Return one purge for all patterns; where one of them takes every path, that of the hosts."""
    if not EVERY_PATH.isdisjoint(patterns):
        return [Asked("host", everywhere)]
    _check_count(len(patterns), everywhere)
    targets: list[str] = []
    for pattern in patterns:
        targets += [str(target) for target in of_pattern(pattern, everywhere).targets]
    return [Asked("regex", targets)]
