"""``purgeline render CACHE --whole``: a configuration for a cache that has none yet.

Nothing but what a purge needs: a listener, backends, how long objects are kept, the lines of the fragment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.base.templates import render
from engine.cli.exits import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from engine.cli.fragments import Setting
    from engine.cli.values import Backend

OBJECTS: Final = "/var/cache/purgeline"  #: nginx's; its parent is everywhere
_TTL_S: Final = 3600  #: of what comes without Cache-Control
_STORAGE_MB: Final = 1024
_FILES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "varnish": (("varnish.vcl.j2", "as /etc/varnish/default.vcl"),),
    "nginx": (("nginx.site.j2", "as /etc/nginx/conf.d/purgeline.conf"),),
    "squid": (("squid.conf.j2", "as /etc/squid/squid.conf"),),
    "ats": (
        ("ats/plugin.config.j2", "as /etc/trafficserver/plugin.config"),
        ("ats/purgeline.config.j2", "as /etc/trafficserver/purgeline.config"),
        ("ats/ip_allow.yaml.j2", "as /etc/trafficserver/ip_allow.yaml"),
        ("ats/remap.config.j2", "as /etc/trafficserver/remap.config"),
        ("ats/records.config.j2", "at the end of /etc/trafficserver/records.config"),
    ),
}


class File(NamedTuple):
    """One file of a configuration."""

    name: str  #: without a folder
    place: str  #: where it goes, as words after "Save this"
    text: str


def whole_files(setting: Setting, backends: list[Backend], *, objects: str = OBJECTS) -> list[File]:
    """Return the files for one cache.

    Args:
        setting: what the lines depend on.
        backends: where the cache fetches.
        objects: folder in which nginx keeps them.

    Raises:
        UsageError: the cache cannot have so many backends.
    """
    if setting.driver == "ats" and len(backends) > 1:
        raise UsageError("--backend: ats takes one in remap.config; several are for its parent.config")
    values = {
        **setting._asdict(),
        "backend": str(backends[0]),
        "backends": list(map(str, backends)) if setting.driver == "nginx" else backends,
        "listen": setting.port,
        "listens": [setting.port, f"[::]:{setting.port}"],
        "address": "",
        "hosts": [],
        "zone": "purgeline",
        "cache_dir": objects,
        "default_ttl_s": _TTL_S,
        "storage_mb": _STORAGE_MB,
        "keepalive_requests": 1000,
        "grace_s": 60,
        "is_lab": False,
    }
    return [
        File(place.rpartition("/")[2], place, render(template, **values).strip() + "\n")
        for template, place in _FILES[setting.driver]
    ]


def whole(files: list[File]) -> str:
    """Return *files* as one text, each below a comment that says where it goes."""
    return "\n".join(f"# ==> Save this {file.place}\n{file.text}" for file in files)


def write(files: list[File], folder: Path) -> None:
    """Write *files* into a folder, which is made if it is not there.

    Raises:
        UsageError: one of them is there.
        OSError: the folder cannot be written to.
    """
    for file in files:
        if (folder / file.name).exists():
            raise UsageError(f"--to: {folder / file.name} is there already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.name).write_text(file.text, encoding="utf-8")
