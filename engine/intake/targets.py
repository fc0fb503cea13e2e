"""The targets of a task, brought to the form in which they are stored, compared and sent.

All targets of one task are checked in one loop, `in_stored_form` or `Normaliser.work`: most of the CPU time
of a large task.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final

from engine.errors import RequestError
from engine.intake import pcre2
from engine.intake.urls import (
    TARGET_MAX_CHARS,
    are_plain,
    normalise_authority,
    normalise_key,
    normalise_url,
    plain_start,
)
from engine.nodes.drivers.patterns import NESTED_MAX, grouped, nesting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.intake.task_body import KeyTarget, TaskBody

_SITES_MAX: Final = 100  #: changes of site among targets that are looked at without a slice
_TAKES_PATTERN: Final = frozenset({"regex", "key", "host"})  #: kinds whose host may be a pattern
_HOST_PATTERN: Final = re.compile(r"(https?://)?\*", re.IGNORECASE)
_LOOK_EACH: Final = 8  #: targets that are not in stored form, between two looks at the clock


def normalise(asked: TaskBody, allows_host: Callable[[str], bool]) -> list[str]:
    """Return the targets in stored form, all of them at once; see `Normaliser`.

    Raises:
        RequestError: 422; the text names the target and what is wrong with it.
    """
    if (found := in_stored_form(asked, allows_host)) is not None:
        return found[0]
    normaliser = Normaliser(asked, allows_host)
    normaliser.work(math.inf)
    return normaliser.targets()


def in_stored_form(asked: TaskBody, allows_host: Callable[[str], bool]) -> tuple[list[str], str] | None:
    """Return the targets as `urls_in_stored_form` does; None: the `Normaliser` has to look at them."""
    return urls_in_stored_form(asked.targets, allows_host) if asked.kind == "url" else None


def urls_in_stored_form(
    asked: Sequence[object], allows_host: Callable[[str], bool]
) -> tuple[list[str], str] | None:
    """Return targets, each once, if they are what nearly all are: URLs in stored form, of a few sites.

    Beside them the site, see `Task.site`. Such a URL costs one comparison, 10,000 of them 2 ms.
    """
    if not are_plain(asked):
        return None
    targets: list[str] = asked  # type: ignore[assignment]
    start, host = plain_start(targets[0])
    if not host or not allows_host(host):
        return None
    if len(targets) == 1:
        return targets, start
    # What is between two texts of one beginning has it, too.
    if min(targets).startswith(start) and max(targets).startswith(start):
        return list(dict.fromkeys(targets)), start
    return (list(dict.fromkeys(targets)), "") if _are_of_few_sites(targets, allows_host) else None


def _are_of_few_sites(targets: list[str], allows_host: Callable[[str], bool]) -> bool:
    start = ""  # of the URLs that need no look at all
    sites = 0
    for target in targets:
        if start and target.startswith(start):
            continue
        start, host = plain_start(target)
        sites += 1
        if not host or sites > _SITES_MAX or not allows_host(host):
            return False
    return True


def have_host_pattern(asked: TaskBody) -> bool:
    """Tell whether a host of the targets is a pattern, ``*.example.com``: not every cache knows those."""
    if asked.kind not in _TAKES_PATTERN:
        return False
    return any(
        _HOST_PATTERN.match(target if isinstance(target, str) else target.host) for target in asked.targets
    )


class Normaliser:
    """The targets of one task on their way to their stored form: 5 to 50 µs each, so it goes on in slices.

    Among them, a URL in stored form that is of the same site as the one before costs one comparison.

    Args:
        asked: the body.
        allows_host: whether the client may purge a host.
        is_replayed: the task was accepted before, so nothing is refused that could have been.
    """

    __slots__ = (
        "_allowed",
        "_allows_host",
        "_asked",
        "_at",
        "_done",
        "_is_all_plain",
        "_normalise",
        "_start",
    )

    def __init__(
        self, asked: TaskBody, allows_host: Callable[[str], bool], *, is_replayed: bool = False
    ) -> None:
        self._asked = asked
        by_kind = _BY_KIND_ANY if is_replayed or asked.literal is True else _BY_KIND
        self._normalise = by_kind[asked.kind]
        self._allows_host = allows_host
        self._is_all_plain = asked.kind == "url" and are_plain(asked.targets)
        self._done: list[str] = []
        self._at = 0
        self._start = ""  # of the URLs that need no look at all
        self._allowed: str | None = None  # the last host that was

    def work(self, slice_s: float) -> bool:
        """Go on; return whether all targets are done.

        Args:
            slice_s: seconds after which it stops. URLs in stored form do not count.

        Raises:
            RequestError: 422; the text names the target and what is wrong with it.
        """
        asked, at, allows_host, normalised = self._asked, self._at, self._allows_host, self._done
        targets = asked.targets
        are_urls = asked.kind == "url"
        all_plain = self._is_all_plain
        normal_form = self._normalise
        start, allowed = self._start, self._allowed
        look_each = 1 if asked.kind == "regex" else _LOOK_EACH  # a long pattern takes some milliseconds
        odd = 0
        until = 0.0
        for index, target in enumerate(targets[at:] if at else targets, at):
            is_plain = all_plain or (are_urls and are_plain([target]))  # an odd one must not cost the others
            if is_plain and start and target.startswith(start):  # type: ignore[union-attr]
                normalised.append(target)  # type: ignore[arg-type]
                continue
            odd += 1
            if not odd % look_each:
                now = time.monotonic()
                until = until or now + slice_s
                if now > until:
                    self._at, self._start, self._allowed = index, start, allowed
                    return False
            text, host = target, ""
            if is_plain:
                start, host = plain_start(target)  # type: ignore[arg-type]
            if not host:
                text, host = normal_form(target, f"targets[{index}]")
            if host != allowed:
                if not allows_host(host):
                    raise RequestError(
                        422,
                        f"targets[{index}]: host {host!r} is outside the sites that may be purged",
                        field=f"targets[{index}]",
                    )
                allowed = host
            normalised.append(text)  # type: ignore[arg-type]
        return True

    def targets(self) -> list[str]:
        """Return the targets in stored form, each once, in the client's order; after `work`."""
        return list(dict.fromkeys(self._done)) if len(self._done) > 1 else self._done


def _any_url(target: str | KeyTarget, where: str) -> tuple[str, str]:
    return normalise_url(_text(target, where), where)


def _url(target: str | KeyTarget, where: str) -> tuple[str, str]:
    text, host = _any_url(target, where)
    if text.endswith("*"):
        raise RequestError(
            422,
            f"{where}: ends in '*', which is a letter of a URL like any other; kind 'prefix' (--prefix) "
            'takes all that begins so, "literal": true means this very URL',
            field=where,
        )
    return text, host


def _any_prefix(target: str | KeyTarget, where: str) -> tuple[str, str]:
    text, host = _any_url(target, where)
    return text.rstrip("*"), host


def _prefix(target: str | KeyTarget, where: str) -> tuple[str, str]:
    """A cache may take a prefix as a pattern, in which a sign is escaped, so it becomes longer."""
    text, host = _any_prefix(target, where)
    if 2 * len(text) > TARGET_MAX_CHARS:
        chars = len(re.escape(text.split("/", 3)[3]))
        if chars > TARGET_MAX_CHARS:
            detail = f"{where}: is {chars} characters long as a pattern, at most {TARGET_MAX_CHARS}"
            raise RequestError(422, f"{detail}; a shorter prefix takes more in", field=where)
    return text, host


def _regex(target: str | KeyTarget, where: str) -> tuple[str, str]:
    text, host = _any_regex(target, where)
    pattern = text.split("/", 3)[3]
    if (groups := nesting(pattern)) > NESTED_MAX:
        detail = (
            f"{where}: has {groups} groups within each other, at most {NESTED_MAX}: a cache may die of more"
        )
        raise RequestError(422, detail, field=where)
    reason = pcre2.refusal(pattern) or pcre2.refusal(f"^/{grouped(pattern)}")
    if reason is not None:
        detail = f"{where}: what stands behind the host is no pattern that a cache can read: {reason}"
        raise RequestError(422, detail, field=where)
    return text, host


def _any_regex(target: str | KeyTarget, where: str) -> tuple[str, str]:
    return normalise_url(_text(target, where), where, keep_fragment=True, takes_pattern=True)


def _key(target: str | KeyTarget, where: str) -> tuple[str, str]:
    if isinstance(target, str):
        host, slash, key = target.partition("/")
        is_url = host.endswith(":") and key.startswith("/")
        if not slash or is_url:
            shown = "; a URL goes with kind 'url'" if is_url else ""
            raise RequestError(
                422, f"{where}: takes host/key, or an object of host and key{shown}", field=where
            )
        return normalise_key(host, key, where)
    return normalise_key(target.host, target.key, where)


def _host(target: str | KeyTarget, where: str) -> tuple[str, str]:
    name = _text(target, where)
    if "://" in name:
        text, host = normalise_url(name, where, takes_pattern=True)
        if text.split("/", 3)[3]:
            raise RequestError(422, f"{where}: takes a host; a path goes with kind 'prefix'", field=where)
        return host, host
    host = normalise_authority(name, where, takes_pattern=True)
    return host, host


def _text(target: str | KeyTarget, where: str) -> str:
    if isinstance(target, str):
        return target
    raise RequestError(422, f"{where}: takes a URL; a host and key go with kind 'key'", field=where)


_BY_KIND: Final[dict[str, Callable[[str | KeyTarget, str], tuple[str, str]]]] = {
    "url": _url,
    "prefix": _prefix,
    "regex": _regex,
    "key": _key,
    "host": _host,
}
_BY_KIND_ANY: Final = {**_BY_KIND, "url": _any_url, "prefix": _any_prefix, "regex": _any_regex}
