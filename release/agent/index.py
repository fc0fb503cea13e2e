"""The signed index: whether what a host is asked to unpack is what a trusted, current index says."""

from __future__ import annotations

import base64
import hashlib
import json
import time

from .answers import Refused
from .files import read_json, write_whole
from .signature import KEY_BYTES, signed
from .tags import platform_tag, python_tag

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

SERIAL, SERIALS = "index-serial", "index-serials"  #: the highest of all repositories; those of each, by id
YANKED = "index-yanked"  #: why artefacts were yanked, by SHA-256


def unseal(envelope: bytes, trusted: list[str]) -> dict[str, Any]:
    """Return the index in *envelope*, once a trusted key's signature fits it.

    Args:
        envelope: JSON with ``payload`` and ``signatures``, base64.
        trusted: public keys, base64.

    Raises:
        Refused: it is damaged, was changed, or an unknown key's; kind ``index``.
    """
    try:
        sealed = json.loads(envelope)
        payload = base64.b64decode(sealed["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in sealed["signatures"]]
        keys = [base64.b64decode(text, validate=True) for text in trusted]
        names = [str(entry["keyid"]) for entry in sealed["signatures"]]
    except (ValueError, TypeError, KeyError) as exc:
        raise Refused("index", f"the index is damaged: {exc!r}") from exc
    if any(len(key) != KEY_BYTES for key in keys) or not keys:
        raise Refused("index", "trusted_keys: takes at least one ed25519 public key, base64 of 32 bytes")
    if not any(signed(payload, signature, key) for signature in signatures for key in keys):
        known = [hashlib.sha256(key).hexdigest() for key in keys]
        if any(full.startswith(name) for name in names if name for full in known):
            raise Refused("index", "the index was changed after it was signed; do not use it")
        raise Refused("index", f"the index is signed by an unknown key ({', '.join(names) or 'nobody'})")
    try:
        index = json.loads(payload)
        index["serial"] + index["expires_at"], index["artefacts"].items()
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise Refused("index", f"the index cannot be read: {exc!r}") from exc
    return index  # type: ignore[no-any-return]


def check(host: Host, request: dict[str, Any]) -> None:
    """See that the request is what a trusted, current index says, and remember the index's serial.

    Raises:
        Refused: it is not; kind ``index``, or ``python`` for an artefact that is built for other hosts.
    """
    try:
        envelope = base64.b64decode(request["envelope"], validate=True)
    except ValueError as exc:
        raise Refused("input", f"envelope: takes base64, {exc}") from exc
    index = unseal(envelope, request["trusted_keys"])
    if index["expires_at"] < time.time():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(index["expires_at"]))
        raise Refused(
            "index",
            f"the index expired at {when} (by this host's clock); renew it by the task repo, --refresh",
        )
    seen = seen_of(host, index)
    if index["serial"] < seen:
        raise Refused(
            "index",
            f"the index is an old one: its serial is {index['serial']}, this host has seen {seen}",
        )
    note_yanked(host, index)
    build = _build_for_here(index, request["version"])
    if build.get("yanked"):
        raise Refused("index", f"version {request['version']} was yanked: {build['yanked']}")
    for key in ("version", "sha256", "size"):
        if build.get(key) != request[key]:
            raise Refused(
                "index", f"the artefact's {key} is not the index's: {request[key]}, not {build.get(key)}"
            )
    remember(host, index)


def seen_of(host: Host, index: dict[str, Any]) -> int:
    """Return the highest serial that this host has seen of the index's repository.

    An index of the version before has no id: it counts by the highest serial of all repositories.
    """
    repository = index.get("repository")
    if not repository:
        return _highest(host)
    return _serials(host).get(str(repository), 0)


def remember(host: Host, index: dict[str, Any]) -> None:
    """Remember the serial of an index, for its repository and for those that have no id."""
    serial, repository = index["serial"], str(index.get("repository") or "")
    serials = _serials(host)
    if repository and serial > serials.get(repository, 0):
        write_whole(host.shared / SERIALS, json.dumps({**serials, repository: serial}).encode())
    if serial > _highest(host):
        write_whole(host.shared / SERIAL, str(serial).encode())


def note_yanked(host: Host, index: dict[str, Any]) -> None:
    """Remember which artefacts a good index calls yanked: a rollback asks no repository."""
    before = read_json(host.shared / YANKED)
    known = before if isinstance(before, dict) else {}
    said = {entry.get("sha256"): entry.get("yanked") for entry in index["artefacts"].values()}
    now = {sha256: why for sha256, why in {**known, **said}.items() if sha256 and why}
    if now != known:
        write_whole(host.shared / YANKED, json.dumps(now).encode())


def yanked(host: Host) -> dict[str, str]:
    """Return why versions that are unpacked here were yanked, as far as this host has seen."""
    known = read_json(host.shared / YANKED)
    reasons = known if isinstance(known, dict) else {}
    return {version: str(reasons[sha256]) for version, sha256 in host.digests().items() if sha256 in reasons}


def _highest(host: Host) -> int:
    serial = read_json(host.shared / SERIAL)
    return serial if isinstance(serial, int) else 0


def _serials(host: Host) -> dict[str, int]:
    serials = read_json(host.shared / SERIALS)
    known = serials if isinstance(serials, dict) else {}
    return {name: serial for name, serial in known.items() if isinstance(serial, int)}


def _build_for_here(index: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the index's entry of the artefact of a version that is built for this host."""
    tags = {"python": python_tag(), "platform": platform_tag()}
    builds = [entry for entry in index["artefacts"].values() if entry.get("version") == version]
    if not builds:
        raise Refused("index", f"the index has no version {version}")
    for build in builds:
        if all(build.get(key) == tag for key, tag in tags.items()):
            return build  # type: ignore[no-any-return]
    others = ", ".join(f"{build.get('python')}-{build.get('platform')}" for build in builds)
    raise Refused("python", f"{version} is built for {others}; this host is {python_tag()}-{platform_tag()}")
