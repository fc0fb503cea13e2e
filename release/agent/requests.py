"""What requests may hold, and how their parts are read."""

from __future__ import annotations

from .answers import Refused

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

#: What the parts of requests take; None is as good as left out.
TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(
        (
            *("root", "file", "sha256", "version", "envelope", "listen", "service"),
            *("token", "who", "where", "machine", "controller_boot", "why", "deploy_id", "action"),
            *("was", "speed"),
        ),
        ((str,), "text"),
    ),
    **dict.fromkeys(("size", "min_free_bytes", "workers", "keep", "limit"), ((int,), "a number")),
    **dict.fromkeys(("requests", "slice", "slices"), ((int,), "a number")),
    **dict.fromkeys(("bake_s", "timeout_s", "ttl_s", "ready_s"), ((int, float), "seconds")),
    **dict.fromkeys(("force", "dry_run", "automatic", "brought", "unlock"), ((bool,), "true or false")),
    "trusted_keys": ((list,), "a list"),
    "entry": ((dict,), "an object"),
}


def check(op: str, request: dict[str, Any], needed: tuple[str, ...]) -> None:
    """Refuse a request that lacks something, or where something is of the wrong kind."""
    for key in ("root", *needed):
        if request.get(key) is None:
            raise Refused("input", f"{op}: {key} is missing")
    for key, (kinds, what) in TAKES.items():
        value = request.get(key)
        if value is not None and type(value) not in kinds:
            raise Refused("input", f"{op}: {key}: takes {what}, not {value!r}")
        if isinstance(value, str) and "\0" in value:
            raise Refused("input", f"{op}: {key}: {value!r} has a NUL in it")
    if request.get("service") not in {None, "auto", "systemd", "direct"}:
        raise Refused("input", f"{op}: service: takes auto, systemd or direct, not {request['service']!r}")


def by(request: dict[str, Any]) -> dict[str, str]:
    """Return who asks, for the history."""
    return {key: str(request.get(key) or "") for key in ("who", "deploy_id")}


def seconds(request: dict[str, Any], key: str, default: float) -> float:
    """Return a span that may be left out."""
    value = request.get(key)
    return default if value is None else float(value)
