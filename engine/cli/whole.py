"""``purgeline render CACHE --whole``: a configuration for a cache that has none yet.

Nothing but what a purge needs: a listener, backends, how long objects are kept, the lines of the fragment.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.base.templates import render
from engine.cli.exits import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from engine.cli.fragments import Setting
    from engine.cli.values import Backend

TLS_PORT: Final = 443
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
_OF_GENERATIONS: Final = "ats/remap.config.j2"  #: has the secret of a node with generations
_TLS_FILES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "ats": (("ats/ssl_multicert.config.j2", "as /etc/trafficserver/ssl_multicert.config"),),
}


class File(NamedTuple):
    """One file of a configuration."""

    name: str  #: without a folder
    place: str  #: where it goes, as words after "Save this"
    text: str
    has_secret: bool = False


class Tls(NamedTuple):
    """Where and with what a cache takes TLS, beside its other port."""

    port: int
    certificate: str  #: path of a PEM file
    key: str  #: the same


class Place(NamedTuple):
    """Where a cache stands."""

    backends: list[Backend]  #: where it fetches
    tls: Tls | None = None


def whole_files(setting: Setting, place: Place, *, objects: str = OBJECTS) -> list[File]:
    """Return the files for one cache.

    Args:
        setting: what the lines depend on.
        place: what is before and behind it.
        objects: folder in which nginx keeps them.

    Raises:
        UsageError: the cache cannot have so many backends, or no TLS.
    """
    backends = place.backends
    if setting.driver == "ats" and len(backends) > 1:
        raise UsageError("--backend: ats takes one in remap.config; several are for its parent.config")
    if setting.generation and place.tls:
        raise UsageError(
            "--certificate: generation_header of the node purges one remap rule, and TLS has another; "
            "use rules_file"
        )
    if setting.driver == "varnish" and place.tls:
        raise UsageError("--certificate: Varnish has no TLS; a proxy before it has (hitch, nginx, HAProxy)")
    values = {
        **setting._asdict(),
        "backend": str(backends[0]),
        "backends": list(map(str, backends)) if setting.driver == "nginx" else backends,
        "tls": place.tls,
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
    chosen = _FILES[setting.driver] + (_TLS_FILES.get(setting.driver, ()) if place.tls else ())
    return [
        File(
            path.rpartition("/")[2],
            path,
            render(template, **values).strip() + "\n",
            has_secret=setting.generation is not None and template == _OF_GENERATIONS,
        )
        for template, path in chosen
    ]


def whole(files: list[File]) -> str:
    """Return *files* as one text, each below a comment that says where it goes."""
    return "\n".join(f"# ==> Save this {file.place}\n{file.text}" for file in files)


def write(files: list[File], folder: Path) -> None:
    """Write *files* into a folder, which is made if it is not there; one with a secret is not for everybody.

    Raises:
        UsageError: one of them is there.
        OSError: the folder cannot be written to.
    """
    for file in files:
        if (folder / file.name).exists():
            raise UsageError(f"--to: {folder / file.name} is there already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        opener = partial(os.open, mode=0o640 if file.has_secret else 0o666)
        with open(folder / file.name, "x", encoding="utf-8", opener=opener) as made:
            made.write(file.text)
