"""Options of commands about caches: ``render``, ``check-nodes``, ``report-groups``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.cli import rendering, values
from engine.cli.options import CONFIG, flag, opt, several

_SINCE_S: Final = 600

_FROM: Final = opt(
    "--from",
    dest="purge_from",
    action="append",
    type=values.network,
    metavar="ADDRESS",
    help=f"address or network of an engine; may be repeated (default {rendering.ENGINE_HERE})",
)  #: who may purge

_LINES: Final = (
    opt("cache", choices=rendering.CACHES, metavar="CACHE", help=", ".join(rendering.CACHES)),
    opt(
        "--node",
        type=values.node_name,
        metavar="NAME",
        help="its name in engine.toml, which goes into its mark",
    ),
    opt("--config", type=Path, metavar="F", help="TOML file of the engine, with that node"),
    _FROM,
    opt("--key-mode", choices=["xkey", "ban"], help="varnish: surrogate keys by vmod xkey, or by bans"),
    opt(
        "--tag-header",
        dest="tag_headers",
        action="append",
        type=values.field,
        metavar="NAME",
        help="varnish: a header in which objects carry tags; may be repeated (default: the common ones)",
    ),
    flag(
        "--group-reports",
        "varnish: log which cache groups origins invalidate (RFC 9875), for `report-groups`",
    ),
    flag("--check", "print what the cache's own check of syntax says of it, and nothing else"),
)
_WHOLE: Final = (
    flag("--whole", "a whole configuration, for a cache that has none yet"),
    opt(
        "--backend",
        dest="backends",
        action="append",
        type=values.backend,
        metavar="HOST:PORT",
        help="with --whole: where the cache fetches; may be repeated",
    ),
    opt("--port", type=values.port, metavar="N", help="with --whole: of the cache (default: its node's, 80)"),
    opt(
        "--certificate",
        type=values.path,
        metavar="F",
        help="with --whole: PEM file with which the cache takes TLS, too; its key is in there as well",
    ),
    opt("--certificate-key", type=values.path, metavar="F", help="the key, where it is in another file"),
    opt("--tls-port", type=values.port, metavar="N", help="with --certificate (default 443)"),
    opt(
        "--to",
        type=Path,
        metavar="DIR",
        help="with --whole: write the files into this folder, print their names",
    ),
)
RENDER: Final = (*_LINES, *_WHOLE)

CHECK_NODES: Final = (
    CONFIG,
    several("--node", "NAME", "only this node; may be repeated"),
    opt(
        "--url", metavar="URL", help="a page that the nodes cache: fetched and purged where a look is needed"
    ),
    _FROM,
)

REPORT_GROUPS: Final = (
    opt("--instance", metavar="DIR", help="of varnishd: what its -n says (default: the machine's)"),
    opt(
        "--varnishlog",
        default="varnishlog",
        metavar="F",
        help="the program that reads its log (default: varnishlog on the PATH)",
    ),
    opt(
        "--since",
        type=values.seconds,
        default=_SINCE_S,
        metavar="S",
        help="seconds for which the log goes back at the start: what was answered while this command was "
        f"away (default {_SINCE_S})",
    ),
)
