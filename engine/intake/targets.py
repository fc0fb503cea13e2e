"""The targets of a task, brought to the form in which they are stored, compared and sent.

All targets of one task are checked in one loop (`normalise`): most of the CPU time of a large task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.errors import RequestError
from engine.intake.urls import are_plain, normalise_authority, normalise_key, normalise_url, plain_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.task_body import KeyTarget, TaskBody


def normalise(asked: TaskBody, allows_host: Callable[[str], bool]) -> list[str]:
    """Return the targets in stored form, each once, in the client's order.

    Nearly all URLs are in stored form already, and of the same site as the URL before: such a URL costs one
    comparison.

    Args:
        asked: the body.
        allows_host: whether the client may purge a host.

    Raises:
        RequestError: 422; the text names the target and what is wrong with it.
    """
    targets = asked.targets
    are_urls = asked.kind == "url"
    all_plain = are_urls and are_plain(targets)
    in_stored_form = _BY_KIND[asked.kind]
    normalised: list[str] = []
    start = ""  # of the URLs that need no look at all
    allowed = None
    for index, target in enumerate(targets):
        is_plain = all_plain or (are_urls and are_plain([target]))  # an odd one must not cost the others
        if is_plain and start and target.startswith(start):  # type: ignore[union-attr]
            normalised.append(target)  # type: ignore[arg-type]
            continue
        text, host = target, ""
        if is_plain:
            start, host = plain_start(target)  # type: ignore[arg-type]
        if not host:
            text, host = in_stored_form(target, f"targets[{index}]")
        if host != allowed:
            if not allows_host(host):
                raise RequestError(
                    422,
                    f"targets[{index}]: host {host!r} is outside the sites that may be purged",
                    field=f"targets[{index}]",
                )
            allowed = host
        normalised.append(text)  # type: ignore[arg-type]
    return list(dict.fromkeys(normalised)) if len(normalised) > 1 else normalised


def _url(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if not isinstance(target, str):
        raise RequestError(422, f"{where}: takes a URL; a host and key go with kind 'key'", field=where)
    return normalise_url(target, where)


def _prefix(target: str | KeyTarget, where: str) -> tuple[str, str]:
    text, host = _url(target, where)
    return text.rstrip("*"), host


def _regex(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if not isinstance(target, str):
        return _url(target, where)
    return normalise_url(target, where, keep_fragment=True)


def _key(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if isinstance(target, str):
        host, slash, key = target.partition("/")
        if not slash:
            raise RequestError(422, f"{where}: takes host/key, or an object of host and key", field=where)
        return normalise_key(host, key, where)
    return normalise_key(target.host, target.key, where)


def _host(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if isinstance(target, str) and "://" in target:
        text, host = normalise_url(target, where)
        if text.split("/", 3)[3]:
            raise RequestError(422, f"{where}: takes a host; a path goes with kind 'prefix'", field=where)
        return host, host
    if not isinstance(target, str):
        return _url(target, where)
    host = normalise_authority(target, where)
    return host, host


_BY_KIND: Final[dict[str, Callable[[str | KeyTarget, str], tuple[str, str]]]] = {
    "url": _url,
    "prefix": _prefix,
    "regex": _regex,
    "key": _key,
    "host": _host,
}
