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
            "index", f"the index expired at {when} (by this host's clock); renew it: inv repo --refresh"
        )
    seen = read_json(host.shared / "index-serial")
    seen = seen if isinstance(seen, int) else 0
    if index["serial"] < seen:
        raise Refused(
            "index",
            f"the index is an old one: its serial is {index['serial']}, this host has seen {seen}",
        )
    build = _build_for_here(index, request["version"])
    if build.get("yanked"):
        raise Refused("index", f"version {request['version']} was yanked: {build['yanked']}")
    for key in ("version", "sha256", "size"):
        if build.get(key) != request[key]:
            raise Refused(
                "index", f"the artefact's {key} is not the index's: {request[key]}, not {build.get(key)}"
            )
    if index["serial"] > seen:
        write_whole(host.shared / "index-serial", str(index["serial"]).encode())


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
