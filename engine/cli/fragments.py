"""What a cache needs to be purged, as lines to paste into the configuration that it has.

Each part says where it goes. The lines are those of the templates that the whole configurations of the tests
include, with the mark of the node and the guard against purges that another cache passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.base.templates import render

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig

NGINX_ZONE: Final = "YOUR-KEYS-ZONE"


class Part(NamedTuple):
    """A template, and where its lines go."""

    template: str
    where: tuple[str, ...]  #: lines of a comment


_PARTS: Final[dict[str, tuple[Part, ...]]] = {
    "varnish": (
        Part(
            "purge/varnish.vcl.j2",
            (
                'Save this as purgeline.vcl beside your VCL, and put  include "purgeline.vcl";  into that,',
                "below its line vcl 4.1; and above its first sub: its subs of the same name run after these.",
            ),
        ),
    ),
    "nginx": (
        Part("purge/nginx.http.j2", ("Into http { } of nginx.conf.",)),
        Part(
            "purge/nginx.server.j2",
            (
                "Into each server { } whose pages are cached.",
                f"{NGINX_ZONE} is the keys_zone of your proxy_cache_path.",
            ),
        ),
        Part(
            "purge/nginx.location.j2",
            (
                "Into each location { } with proxy_cache, in the place of a proxy_cache_key that it has.",
                "A new key means that what is cached now is not found again.",
            ),
        ),
    ),
    "ats": (
        Part("ats/plugin.config.j2", ("A line of plugin.config.",)),
        Part("ats/purgeline.config.j2", ("Save this as purgeline.config beside plugin.config.",)),
        Part(
            "ats/ip_allow.yaml.j2",
            (
                "Rules of ip_allow.yaml, above those that are there.",
                "Every host that is purged needs a rule in remap.config.",
            ),
        ),
    ),
    "squid": (Part("purge/squid.conf.j2", ("Into squid.conf, above its first http_access line.",)),),
}


class Setting(NamedTuple):
    """What the lines depend on."""

    driver: str
    node: str  #: its name in ``engine.toml``
    purge_from: list[str]  #: addresses or networks of the engines
    purge_path: str = "/purge"  #: nginx
    key_mode: str = "xkey"  #: varnish
    is_parent: bool = False  #: varnish: of a node


def setting_of(node: NodeConfig, *, purge_from: list[str], is_parent: bool) -> Setting:
    """Return the setting of a configured node."""
    key_mode = "xkey" if node.key_mode == "xkey" else "ban"
    return Setting(node.driver, node.name, purge_from, node.purge_path or "/purge", key_mode, is_parent)


def fragment(setting: Setting) -> str:
    """Return the lines for one cache, each part below a comment that says where it goes."""
    values = {**setting._asdict(), "zone": NGINX_ZONE, "grace_s": None}
    parts = []
    for template, where in _PARTS[setting.driver]:
        heading = "".join(f"# ==> {line}\n" for line in where)
        parts.append(f"{heading}\n{render(template, **values).rstrip()}\n")
    return "\n".join(parts)
