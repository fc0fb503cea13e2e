"""The body of a task as a client sends it: its fields, and what each takes. Pure."""

from __future__ import annotations

import hashlib
import re
import time
from functools import partial
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from engine.config.checks import REBOUND_MAX_S
from engine.config.hints import nearest
from engine.errors import RequestError
from engine.tasks.verify import URLS_MAX

TARGETS_MAX: Final = 10_000
DUE_MAX_S: Final = 7 * 86400
START_MAX_S: Final = 30 * 86400  #: a task may be handed in so long before it begins
_NAME_SHOWN: Final = 64
ID = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._~-]{0,63}")
"""Of every task. Those with a `HANDED` in them only an engine above chooses, for parts of its tasks."""
_PROBLEM = re.compile(r"(.*?)(?: - at `\$\.?([^`]*)`)?", re.DOTALL)  # of msgspec: what, and its JSON path


class KeyTarget(msgspec.Struct, forbid_unknown_fields=True):
    """A surrogate key of one host."""

    host: str
    key: str


def _said(text: str, default: str = "", **schema: Any) -> msgspec.Meta:
    """Return what docs/http.md and ``GET /openapi.json`` say of a field; nothing is checked by it.

    Args:
        text: what it takes.
        default: what it is when it is left out, where its structure does not tell.
        schema: further bounds, which `check_fields` holds it to.
    """
    return msgspec.Meta(description=text, extra={"default": default}, extra_json_schema=schema or None)


class VerifyBody(msgspec.Struct, forbid_unknown_fields=True):
    """How a task is verified, beyond yes and no."""

    sample: Annotated[
        int | msgspec.UnsetType, _said(f"so many of the targets, 1-{TARGETS_MAX:,}, on each node")
    ] = msgspec.UNSET
    urls: Annotated[
        list[str] | msgspec.UnsetType,
        _said(f"1-{URLS_MAX} URLs, for kinds whose targets nobody can visit", minItems=1, maxItems=URLS_MAX),
    ] = msgspec.UNSET


class TaskBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/task`` as the client sends it."""

    targets: Annotated[
        list[str | KeyTarget],
        _said(
            f"1-{TARGETS_MAX:,} of them, see below; the same target twice counts once",
            minItems=1,
            maxItems=TARGETS_MAX,
        ),
    ]
    id: Annotated[
        str | None,
        _said(
            "1-64 of `A-Za-z0-9._-`. The same id with the same body again answers 200 with the task; with "
            "another body 409. Names that end in `.retry-N` are the engine's own",
            "made by the engine",
        ),
    ] = None
    action: Annotated[Literal["purge", "prefetch"], _said("`purge`, `prefetch`")] = "purge"
    kind: Annotated[
        Literal["url", "prefix", "regex", "key", "host"], _said("`url`, `prefix`, `regex`, `key`, `host`")
    ] = "url"
    soft: Annotated[
        bool, _said("mark stale instead of dropping, where the cache can; parents are always purged hard")
    ] = False
    prefetch: Annotated[
        bool,
        _said(
            "after the purge has been acked, fetch again (kind `url` only); a later purge of the same URL "
            "that comes while that is under way counts when it was sent again after it"
        ),
    ] = False
    layers: Annotated[
        list[str],
        _said(
            "names of layers; `eu/edge` is one of the engine `eu`, `edge` that of every engine below, too; "
            "without these, `nodes` and `groups`: every node"
        ),
    ] = []
    nodes: Annotated[
        list[str],
        _said("names of nodes, `eu/edge-7` one of the engine `eu`; those that are in the layers and groups"),
    ] = []
    groups: Annotated[
        list[str] | msgspec.UnsetType,
        _said(
            "names of groups of nodes, as `layers`; nodes that are in one of the layers, too", "every node"
        ),
    ] = msgspec.UNSET  #: not set: not in the digest
    callback: Annotated[
        str | None, _said("URL for state reports; its host needs a `[[callback]]` rule", "none")
    ] = None
    due_s: Annotated[
        float | None,
        _said(
            "seconds until what is undelivered makes the task `partial`; at most 7 days",
            "`engine.due_s`, 60",
        ),
    ] = None
    on_incapable: Annotated[
        Literal["refuse", "skip"] | msgspec.UnsetType,
        _said(
            "what to do when some of the nodes cannot purge by this kind: `refuse` the task, or `skip` those "
            "nodes and purge the others",
            "`engine.on_incapable`, `refuse`",
        ),
    ] = msgspec.UNSET  #: not set: not in the digest
    rebound_s: Annotated[
        float | msgspec.UnsetType | None,
        _said(
            f"seconds after which every purge is sent once more, 0 (not) to {REBOUND_MAX_S}; kind `url` "
            "only. For fetches of the old object that visitors began before the purge, and that their cache "
            "stores after it. The task is `done` before, at its first acks; its own prefetches come after "
            "it; `total` does not count it",
            "`engine.rebound_s`, 0",
        ),
    ] = msgspec.UNSET  #: as above
    start_at: Annotated[
        float | msgspec.UnsetType | None,
        _said(
            "UNIX seconds at which the task is planned and sent, see docs/later.md; "
            f"at most {START_MAX_S // 86400} days ahead, and a time that is over means "
            "at once",
            "at once",
        ),
    ] = msgspec.UNSET  #: as above
    literal: Annotated[
        bool | msgspec.UnsetType,
        _said(
            "a URL that ends in `*` is meant so (kind `url` only). Without it such a URL is refused, because "
            "`*` is a letter of a URL like any other, and who writes it nearly always means kind `prefix`",
            "`false`",
        ),
    ] = msgspec.UNSET  #: as above
    confirm: Annotated[
        bool | msgspec.UnsetType,
        _said(
            "the client means it: a task with more subtasks on a `[[site]]` than its `confirm_over`, and "
            "there any purge by another kind than `url`, is refused without it",
            "`false`",
        ),
    ] = msgspec.UNSET  #: as above
    verify: Annotated[
        bool | VerifyBody | msgspec.UnsetType,
        _said(
            "whether each node is visited after its ack, as visitors do, and what it serves compared with "
            'the `[[origin]]`: `true`, `false`, `{"sample": 20}` (so many of the targets), or '
            '`{"urls": […]}` for kinds whose targets nobody can visit. The task is `done` after that; what '
            "is stale is purged and visited once more, and what is stale then has the task `failed`. See "
            "docs/verification.md",
            "`proof.verify`, `off`",
        ),
    ] = msgspec.UNSET  #: as above


def _words_of(kind: Any) -> tuple[str, ...]:
    """Return the words that a field of this type takes; nothing when it takes others than words."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((words for words in map(_words_of, get_args(kind)) if words), ())


_CHOICES: Final = {
    field.name: ", ".join(words)
    for field in msgspec.structs.fields(TaskBody)
    if (words := _words_of(field.type))
}
_FIELDS: Final = [field.name for field in msgspec.structs.fields(TaskBody)]
_KEY_FIELDS: Final = [field.name for field in msgspec.structs.fields(KeyTarget)]
_VERIFY_FIELDS: Final = [field.name for field in msgspec.structs.fields(VerifyBody)]
_decode = msgspec.json.Decoder(TaskBody).decode
_encode = msgspec.json.Encoder().encode


def decode(body: bytes) -> TaskBody:
    """Return the decoded body.

    Raises:
        RequestError: 400 when it is not JSON, 422 when a field is unknown, missing or of the wrong
            type.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError as exc:
        raise _refusal(str(exc)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError(400, f"the body is not valid JSON: {exc}") from None


def _refusal(problem: str) -> RequestError:
    """Say what the field takes, where msgspec says only what is wrong with it."""
    match = _PROBLEM.fullmatch(problem)
    assert match is not None
    what, field = match[1], match[2] or ""
    hint = None
    if what.startswith("Object contains unknown field"):
        name = what.split("`")[1][:_NAME_SHOWN]
        detail = f"unknown field {name!r}"
        hint = partial(
            nearest, name, _VERIFY_FIELDS if field == "verify" else _KEY_FIELDS if field else _FIELDS
        )
    elif what.startswith("Object missing required field"):
        detail = f"field {what.split('`')[1]!r} is missing"
    elif field in _CHOICES:
        detail = f"takes {_CHOICES[field]}; {what[0].lower()}{what[1:]}"
    elif field.startswith("targets["):
        detail = f"takes a string, or an object of host and key; {what[0].lower()}{what[1:]}"
    else:
        detail = what[0].lower() + what[1:]
    return RequestError(422, f"{field or 'body'}: {detail}", field=field, hint=hint)


def check_fields(asked: TaskBody) -> None:
    """Refuse fields that are well-formed and make no sense, alone or together.

    Raises:
        RequestError: 422; the text names the field and what it takes.
    """
    if asked.id is not None and not ID.fullmatch(asked.id):
        raise bad_id()
    if not 1 <= len(asked.targets) <= TARGETS_MAX:
        raise RequestError(
            422, f"targets: takes 1-{TARGETS_MAX} targets, got {len(asked.targets)}", field="targets"
        )
    if asked.due_s is not None and not 0 < asked.due_s <= DUE_MAX_S:
        raise RequestError(422, f"due_s: takes seconds, more than 0 and at most {DUE_MAX_S}", field="due_s")
    if isinstance(asked.rebound_s, float):
        _check_rebound(asked, asked.rebound_s)
    if isinstance(asked.start_at, float) and asked.start_at > time.time() + START_MAX_S:
        detail = f"start_at: takes UNIX seconds, at most {START_MAX_S // 86400} days ahead"
        raise RequestError(422, detail, field="start_at")
    if asked.verify is not False and not isinstance(asked.verify, msgspec.UnsetType):
        _check_verify(asked, asked.verify)
    if asked.literal is True and asked.kind != "url":
        raise RequestError(422, "literal: only a URL can be meant literally; leave it out", field="literal")
    if asked.action == "prefetch":
        if asked.kind != "url":
            raise RequestError(422, "kind: a prefetch takes kind 'url' only", field="kind")
        if asked.soft or asked.prefetch:
            field = "soft" if asked.soft else "prefetch"
            raise RequestError(422, f"{field}: is for purges; this task is a prefetch already", field=field)
    elif asked.prefetch and asked.kind != "url":
        raise RequestError(422, "prefetch: only a purge by url knows what to fetch again", field="prefetch")


def bad_id() -> RequestError:
    """Return the 422 for an id that no client may choose."""
    return RequestError(422, "id: takes 1-64 characters of A-Z a-z 0-9 . _ -", field="id")


def _check_rebound(asked: TaskBody, rebound_s: float) -> None:
    if not 0 <= rebound_s <= REBOUND_MAX_S:
        detail = f"rebound_s: takes seconds, 0 (none) to {REBOUND_MAX_S}"
    elif rebound_s and (asked.action != "purge" or asked.kind != "url"):
        detail = "rebound_s: only a purge by url is sent once more"
    else:
        return
    raise RequestError(422, detail, field="rebound_s")


def _check_verify(asked: TaskBody, verify: bool | VerifyBody) -> None:
    unset = msgspec.UNSET
    urls = unset if isinstance(verify, bool) else verify.urls
    sample = unset if isinstance(verify, bool) else verify.sample
    if asked.action != "purge":
        detail = "verify: is for purges; a prefetch that was acked has fetched"
    elif not isinstance(verify, bool) and (urls is unset) == (sample is unset):
        detail = 'verify: takes true, false, {"sample": 20} or {"urls": […]}'
    elif urls is unset and asked.kind != "url":
        detail = f'verify: nobody can visit a {asked.kind}: name what is to be looked at, {{"urls": […]}}'
    elif isinstance(urls, list) and not 1 <= len(urls) <= URLS_MAX:
        detail = f"verify.urls: takes 1-{URLS_MAX} URLs, got {len(urls)}"
    elif isinstance(sample, int) and not 1 <= sample <= TARGETS_MAX:
        detail = f"verify.sample: takes 1-{TARGETS_MAX} targets"
    else:
        return
    raise RequestError(422, detail, field=detail.partition(":")[0])


def journal_body(asked: TaskBody, body: bytes) -> bytes:
    """Return a body as the journal holds it: with no field that the version before does not know.

    That version fails a task for good whose body it cannot read: after a rollback, and beside this one. The
    plan tells what groups chose; of a task that is planned anew when it begins the body keeps them.
    """
    unset = msgspec.UNSET
    if (
        asked.rebound_s is unset
        and asked.literal is unset
        and asked.start_at is unset
        and asked.confirm is unset
        and asked.verify is unset
        and asked.groups is unset
    ):
        return body
    known = msgspec.structs.replace(
        asked, rebound_s=unset, literal=unset, start_at=unset, confirm=unset, verify=unset
    )
    if asked.start_at is unset:
        known.groups = unset
    return _encode(known)


def digest_of(asked: TaskBody) -> bytes:
    """Return the digest of a body: the same for the same fields, whatever their order and white space.

    Digests are stored, and compared by the versions before and after this one: a field that was added later
    counts only where it is set.
    """
    return hashlib.blake2b(_encode(asked), digest_size=16).digest()
