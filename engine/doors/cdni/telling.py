"""What a trigger comes to, in the RFC's words: Trigger Status Resources, and Error Descriptions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from loguru import logger

from engine.doors.cdni.command import SUBJECTS, specification
from engine.doors.cdni.planning import Rules, error_of, plan_of
from engine.errors import RequestError
from engine.tasks.triggers import lost_of
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.doors.cdni.command import Specification
    from engine.doors.cdni.planning import Places
    from engine.tasks.triggers import Documents, TriggerRecord

_ANY_HOST: Final = "host"  #: in place of those that a collection id was purged on
_CODES: Final = {403: "eperm", 413: "ereject", 422: "ereject"}


class _StatusResource(msgspec.Struct, omit_defaults=True):
    """A Trigger Status Resource (section 5.1.2)."""

    trigger: msgspec.Raw
    ctime: int
    mtime: int
    etime: int
    status: str
    errors: list[dict[str, Any]] = []


def status_resource(record: TriggerRecord) -> bytes:
    """Return the Trigger Status Resource of a trigger, JSON."""
    return msgspec.json.encode(
        _StatusResource(
            record.spec,
            int(record.ctime),
            int(record.mtime),
            int(record.etime),
            record.status.value,
            record.errors,
        )
    )


def refusal(status: int, detail: str, places: Places) -> dict[str, Any]:
    """Return the Error Description of a task that the intake has refused."""
    return error_of(_CODES.get(status, "ecdn"), detail, _about(places))


def errors_of(
    record: TriggerRecord, documents: Documents, *, forgotten_before: float
) -> list[dict[str, Any]]:
    """Return the Error Descriptions of the tasks of a trigger that have settled, or are lost.

    Args:
        record: the trigger.
        documents: of its tasks.
        forgotten_before: see `status_of`.
    """
    lost = lost_of(record, documents, forgotten_before)
    if not lost and not any(_has_failed(one) for one in documents.values()):
        return []
    targets = _targets_of(record)
    found = []
    for kind, task_id in record.tasks.items():
        document, places = documents.get(task_id), targets.get(kind, {})
        if task_id in lost:
            text = f"its task {task_id} is lost: what became of it cannot be told; ask again"
            found.append(error_of("ecdn", text, _about(places)))
        elif document is not None and _has_failed(document):
            code = "econtent" if document.get("action") == "prefetch" else "ecdn"
            found += _of_task(document, code, places)
    return found


def _targets_of(record: TriggerRecord) -> dict[str, Places]:
    """Return what each task of a trigger is about, and where its client named that; none of what was refused.

    Never raises: what another version stored may be nothing that this one takes; its errors name nothing.
    """
    refused = {_known(name, value) for one in record.refused for name, value in _values(one)}
    try:
        kept = _without(specification(record.spec), refused)
        return plan_of(kept, Rules(lambda _: True, lambda _: True, [_ANY_HOST])).targets
    except (RequestError, msgspec.DecodeError) as exc:
        logger.warning("trigger {}: what its errors are about cannot be told: {}", record.id, exc)
        return {}


def _has_failed(document: Mapping[str, Any] | None) -> bool:
    return document is not None and document["state"] in FINAL_STATES and document["state"] != State.DONE


def _of_task(document: Mapping[str, Any], code: str, places: Places) -> list[dict[str, Any]]:
    errors = list(document["errors"])
    about: dict[str, Places] = {}
    for error in errors:
        target = error["target"]
        key = target if target in places else _on_any_host(target)
        of_reason = about.setdefault(f"{error['node']}: {error['reason']}", {})
        of_reason.update({key: places[key]} if key in places else places)
    found = [error_of(code, reason, _about(those)) for reason, those in about.items()]
    if document["state"] == State.CANCELLED:
        return [error_of("ecanceled", "cancelled before the caches had done it", _about(places))]
    if not found or document["failed"] > len(errors):
        more = document["failed"] - len(errors)
        found.append(error_of(code, f"{max(1, more)} more subtasks have failed", _about(places)))
    return found


def _on_any_host(target: str) -> str:
    """Return how `errors_of` calls a collection id on a host."""
    return f"{_ANY_HOST}/{target.partition('/')[2]}"


def _without(trigger: Specification, refused: set[bytes]) -> Specification:
    kept = {
        name.replace(".", "_"): [one for one in trigger.named(name) if _known(name, one) not in refused]
        for name in SUBJECTS
    }
    return msgspec.structs.replace(trigger, **kept)


def _values(error: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((name, one) for name, values in error.items() if isinstance(values, list) for one in values)


def _known(name: str, value: object) -> bytes:
    return msgspec.json.encode((name, value))


def _about(places: Places) -> dict[str, list[Any]]:
    """Return property → values as the client wrote them, each once."""
    about: dict[str, list[Any]] = {}
    seen: set[bytes] = set()
    for named in places.values():
        for name, value in named:
            if (key := _known(name, value)) not in seen:
                seen.add(key)
                about.setdefault(name, []).append(value)
    return about


def collection(base: str, triggers: list[str], stale_s: int, links: Mapping[str, str], cdn_id: str) -> bytes:
    """Return a Trigger Collection (section 5.1.3), JSON.

    Args:
        base: URL of the collection of all.
        triggers: ids.
        stale_s: ``staleresourcetime``.
        links: to other collections, by name.
        cdn_id: of this CDN; empty: it is left out.
    """
    own = {"cdn-id": cdn_id} if cdn_id else {}
    urls = [f"{base}/{trigger_id}" for trigger_id in triggers]
    return msgspec.json.encode({"triggers": urls, "staleresourcetime": stale_s, **links, **own})
