"""From a trigger to the bodies of the tasks that do it, and the errors of what none can do. Pure.

URLs and patterns of metadata are objects in the caches like any other: the engine has no other place for it.
A host that no ``[[site]]`` names has no metadata here, and what is of it fails with ``emeta``, as in the
RFC's example (section 6.2.6); a host of another client is refused, and the whole command with it (2.2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.doors.cdni.command import CCID, PATTERNS, TYPES, URLS
from engine.doors.cdni.patterns import Target, UnsupportedPatternError, target_of
from engine.errors import RequestError
from engine.intake.task_body import TARGETS_MAX
from engine.intake.urls import normalise_key, normalise_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.doors.cdni.command import Pattern, Specification

_LISTS: Final = (*URLS, *PATTERNS)
_ANY_HOST: Final = "host"
KINDS: Final = (
    "url",
    "prefix",
    "regex",
    "host",
    "key",
)  #: of tasks, in their order
_NO_SITES: Final = (
    "content.ccid names no host, and the token may purge any: the sites of the token, or default_hosts of "
    "the door, say where"
)

Places = dict[str, list[tuple[str, Any]]]
"""A target → where the client named it: the property, and the value as it was."""


class Rules(msgspec.Struct, frozen=True):
    """Whose hosts are whose, for one token."""

    is_site: Callable[[str], bool]  #: whether any ``[[site]]`` has a host
    allows: Callable[[str], bool]  #: whether the token may purge it
    hosts: Sequence[str]  #: every host, or host pattern, that it may purge; none: any host


class Plan(msgspec.Struct):
    """What becomes of a trigger."""

    targets: dict[str, Places]  #: by kind
    refused: list[dict[str, Any]]  #: Error Descriptions of what becomes no task

    def bodies(self, trigger_type: str) -> list[tuple[str, bytes]]:
        """Return kind and body of each task."""
        made = []
        for kind in KINDS:
            targets = self.targets.get(kind)
            if targets:
                made.append((kind, _body(trigger_type, kind, list(targets))))
        return made


def plan_of(trigger: Specification, rules: Rules) -> Plan:
    """Return what becomes of a trigger whose form has been checked.

    Raises:
        RequestError: 400, 403, 413; the text names what is wrong and what it takes.
    """
    return _Planning(trigger, rules).plan()


class _Planning:
    """The planning of one trigger."""

    def __init__(self, trigger: Specification, rules: Rules) -> None:
        self._trigger = trigger
        self._rules = rules
        self._plan = Plan({}, [])
        self._unknown: dict[str, dict[str, list[Any]]] = {}  # host → property → values

    def plan(self) -> Plan:
        trigger, plan = self._trigger, self._plan
        kind = trigger.type
        if kind not in TYPES:
            about = {name: trigger.named(name) for name in _LISTS if trigger.named(name)}
            text = f"type {kind[:80]!r} is not supported; this CDN takes {', '.join(TYPES)}"
            plan.refused.append(error_of("eunsupported", text, about))
            return plan
        for name in URLS:
            for place, url in enumerate(trigger.named(name)):
                where = f"{name}[{place}]"
                text, host = _normalised(url, where)
                self._add(Target("url", text, host), name, where, url)
        for name in PATTERNS:
            for place, pattern in enumerate(trigger.named(name)):
                self._add_pattern(name, f"{name}[{place}]", pattern)
        for host, about in self._unknown.items():
            plan.refused.append(error_of("emeta", f"{host} is none of the sites of this CDN", about))
        if trigger.content_ccid:
            self._add_ccids(trigger.content_ccid)
        return plan

    def _add(self, found: Target, name: str, where: str, value: object) -> None:
        """Note a target, and where its client named it.

        Raises:
            RequestError: 403, it is another client's.
        """
        if self._rules.allows(found.host):
            places = self._plan.targets.setdefault(found.kind, {})
            places.setdefault(found.target, []).append((name, value))
        elif self._rules.is_site(found.host):
            detail = f"{where}: host {found.host!r} is none of this client's sites"
            raise RequestError(403, detail, field=where)
        else:
            self._unknown.setdefault(found.host, {}).setdefault(name, []).append(value)

    def _add_pattern(self, name: str, where: str, pattern: Pattern) -> None:
        text = pattern.pattern
        try:
            found = target_of(
                text,
                f"{where}.pattern",
                is_cased=pattern.is_cased is True,
                has_query=pattern.has_query is True,
            )
        except UnsupportedPatternError as exc:
            self._plan.refused.append(error_of("ereject", f"{text[:200]}: {exc}", {name: [pattern]}))
        else:
            self._add(found, name, where, pattern)

    def _add_ccids(self, ccids: list[str]) -> None:
        for place, ccid in enumerate(ccids):
            _keyed(_ANY_HOST, ccid, place)  # a malformed one is refused whether or not any is purged
        hosts = self._rules.hosts
        is_preposition = self._trigger.type == "preposition"
        if is_preposition or not hosts:
            text = "nobody can tell the URLs of a collection: name them" if is_preposition else _NO_SITES
            self._plan.refused.append(error_of("ereject", text, {CCID: ccids}))
            return
        if len(ccids) * len(hosts) > TARGETS_MAX:
            most = TARGETS_MAX // len(hosts)
            raise RequestError(413, f"{CCID}: has {len(ccids):,}, for {len(hosts)} sites at most {most:,}")
        places = self._plan.targets.setdefault("key", {})
        for place, ccid in enumerate(ccids):
            for host in hosts:
                places.setdefault(_keyed(host, ccid, place), []).append((CCID, ccid))


def _keyed(host: str, ccid: str, place: int) -> str:
    try:
        return normalise_key(host, ccid, f"{CCID}[{place}]")[0]
    except RequestError as exc:
        raise RequestError(400, exc.short, field=exc.field) from exc


def _normalised(url: str, where: str) -> tuple[str, str]:
    try:
        return normalise_url(url, where)
    except RequestError as exc:
        raise RequestError(400, exc.short, field=where) from exc


def _body(trigger_type: str, kind: str, targets: list[str]) -> bytes:
    fields: dict[str, Any] = {"targets": targets}
    if kind != "url":
        fields["kind"] = kind
    elif any(target.endswith("*") for target in targets):
        fields["literal"] = True
    if trigger_type == "preposition":
        fields["action"] = "prefetch"
    elif trigger_type == "invalidate":
        fields["soft"] = True
    return msgspec.json.encode(fields)


def error_of(code: str, description: str, about: dict[str, list[Any]]) -> dict[str, Any]:
    """Return an Error Description (section 5.2.6); one of the four lists has to be there."""
    named = {name: msgspec.to_builtins(values) for name, values in about.items()}
    if not any(name in _LISTS for name in named):
        named["content.urls"] = []
    return {"error": code, "description": description, **named}
