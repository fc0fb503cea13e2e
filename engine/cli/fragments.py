"""What a cache needs to be purged, as lines to paste into the configuration that it has.

Each part says where it goes. The lines are those of the templates that the whole configurations of the tests
include, with the mark of the node and the guard against purges that another cache passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from engine.base.templates import render

if TYPE_CHECKING:
    from engine.config.tables import Config, NodeConfig

NGINX_ZONE: Final = "YOUR-KEYS-ZONE"
SQUID_PEER: Final = "YOUR-CACHE-PEER"
GENERATION_FILE: Final = "/var/cache/trafficserver/purgeline.generation"
GENERATION_SECRET: Final = "YOUR-GENERATION-SECRET"  # noqa: S105 - stands for one
ENGINE_HOST: Final = "HOST-OF-THE-ENGINE"
_HERE: Final = frozenset({"0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})  # noqa: S104 - no listener


class Part(NamedTuple):
    """A template, and where its lines go."""

    template: str
    where: tuple[str, ...]  #: lines of a comment
    needs: str = ""  #: what of a `Setting` the lines are for; they are left out where it is None


_PARTS: Final[dict[str, tuple[Part, ...]]] = {
    "varnish": (
        Part(
            "purge/varnish.vcl.j2",
            (
                'Save this as purgeline.vcl beside your VCL, and put  include "purgeline.vcl";  into that,',
                "below its line vcl 4.1; and above its first sub: its subs of the same name run after these.",
            ),
        ),
        Part(
            "purge/varnish.canary.j2",
            ("At the end of your VCL, below all of its backends: the first one is for whatever names none.",),
            needs="canary",
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
        Part(
            "purge/nginx.canary.j2",
            ("Into each server { } whose pages are cached, and into the default one.",),
            needs="canary",
        ),
    ),
    "ats": (
        Part("ats/plugin.config.j2", ("A line of plugin.config.",)),
        Part("ats/purgeline.config.j2", ("Save this as purgeline.config beside plugin.config.",)),
        Part(
            "ats/ip_allow.items.j2",
            (
                "Into ip_allow.yaml, below its line ip_allow: and above the rules that are there.",
                "The last of those has to deny PURGE to everybody else, as Debian's does.",
                "Every host that is purged needs a rule in remap.config.",
            ),
        ),
        Part("ats/canary.config.j2", ("Into remap.config, above all other rules.",), needs="canary"),
        Part(
            "ats/generation.config.j2",
            ("At the end of each rule of remap.config whose pages are purged, on the same line.",),
            needs="generation",
        ),
    ),
    "squid": (
        Part("purge/squid.conf.j2", ("Into squid.conf, above its first http_access line.",)),
        Part(
            "purge/squid.canary.j2",
            (
                "Into squid.conf, below its cache_peer lines.",
                f"{SQUID_PEER} is the name of each of those: one line for each.",
            ),
            needs="canary",
        ),
    ),
}


class Setting(NamedTuple):
    """What the lines depend on."""

    driver: str
    node: str  #: its name in ``engine.toml``
    purge_from: list[str]  #: addresses or networks of the engines
    purge_path: str = "/purge"  #: nginx
    key_mode: str = "xkey"  #: varnish
    is_parent: bool = False  #: varnish: of a node
    port: int = 80  #: ats: of the node, where visitors come in
    scheme: str = "http"  #: ats: of the same
    rules_file: str = ""  #: ats
    rules_state_file: str = ""  #: ats
    generation: dict[str, str] | None = None  #: ats: header, secret and state_file of remap_purge
    canary: CanaryPlace | None = None  #: None: the node fetches no canaries from the engine
    tag_headers: list[str] | None = None  #: varnish: which carry tags; None: those that the template names
    group_reports: bool = False  #: varnish: log which cache groups origins invalidate


class CanaryPlace(NamedTuple):
    """Where canaries are fetched from."""

    host: str
    port: int
    path: str


def setting_of(node: NodeConfig, config: Config, *, purge_from: list[str], is_parent: bool) -> Setting:
    """Return the setting of a configured node."""
    visited = urlsplit(node.visit_url or node.url)
    return Setting(
        node.driver,
        node.name,
        purge_from,
        node.purge_path or "/purge",
        "xkey" if node.key_mode == "xkey" else "ban",
        is_parent,
        visited.port or (443 if visited.scheme == "https" else 80),
        visited.scheme,
        node.rules_file,
        node.rules_state_file,
        _generation(node),
        None if node.parents else _canary_place(config),
    )


def _generation(node: NodeConfig) -> dict[str, str] | None:
    """Return what the remap_purge plug-in needs at each remap rule; None: the node does without."""
    if not node.generation_header:
        return None
    header, secret = node.generation_header, node.generation_secret
    return {"header": header, "secret": secret, "state_file": GENERATION_FILE}


def without_secret(setting: Setting) -> Setting:
    """Return *setting* with a placeholder in the place of its secret, for what others may read."""
    if setting.generation is None:
        return setting
    return setting._replace(generation={**setting.generation, "secret": GENERATION_SECRET})


def _canary_place(config: Config) -> CanaryPlace | None:
    """Return where the canary origin is, for caches on other hosts; None: there is none."""
    canary = config.canary
    if not canary.interval_s:
        return None
    host, _, port = (canary.listen or config.engine.listen).rpartition(":")
    bare = host.strip("[]")
    is_elsewhere = bare in _HERE and not _is_here(config)
    return CanaryPlace(ENGINE_HOST if is_elsewhere else host, int(port), canary.path)


def _is_here(config: Config) -> bool:
    """Tell whether the nodes are on this host, as far as their URLs tell."""
    return all(urlsplit(node.url).hostname in _HERE for node in config.node)


def lines_of(setting: Setting) -> dict[str, str]:
    """Return the lines for one cache, by the template that they are of, in the order of their places."""
    values = {**setting._asdict(), "zone": NGINX_ZONE, "peer": SQUID_PEER, "grace_s": None}
    return {
        part.template: f"{render(part.template, **values).rstrip()}\n"
        for part in _PARTS[setting.driver]
        if not part.needs or values[part.needs] is not None
    }


def fragment(setting: Setting) -> str:
    """Return the lines for one cache, each part below a comment that says where it goes."""
    where = {part.template: part.where for part in _PARTS[setting.driver]}
    return "\n".join(
        "".join(f"# ==> {line}\n" for line in where[template]) + f"\n{lines}"
        for template, lines in lines_of(setting).items()
    )
