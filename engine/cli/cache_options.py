"""Options of commands about caches: ``render``, ``check-nodes``, ``report-groups``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.cli import rendering, values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_SINCE_S: Final = 600


def add_render(option: Callable[..., argparse.Action]) -> None:
    """Add the options of ``render``."""
    option("cache", choices=rendering.CACHES, metavar="CACHE", help=", ".join(rendering.CACHES))
    option(
        "--node",
        type=values.node_name,
        metavar="NAME",
        help="its name in engine.toml, which goes into its mark",
    )
    option("--config", type=Path, metavar="F", help="TOML file of the engine, with that node")
    add_from(option)
    option("--key-mode", choices=["xkey", "ban"], help="varnish: surrogate keys by vmod xkey, or by bans")
    option(
        "--tag-header",
        dest="tag_headers",
        action="append",
        type=values.field,
        metavar="NAME",
        help="varnish: a header in which objects carry tags; may be repeated (default: the common ones)",
    )
    option(
        "--group-reports",
        action="store_true",
        help="varnish: log which cache groups origins invalidate (RFC 9875), for `report-groups`",
    )
    option(
        "--check",
        action="store_true",
        help="print what the cache's own check of syntax says of it, and nothing else",
    )
    option("--whole", action="store_true", help="a whole configuration, for a cache that has none yet")
    _add_whole(option)


def _add_whole(option: Callable[..., argparse.Action]) -> None:
    option(
        "--backend",
        dest="backends",
        action="append",
        type=values.backend,
        metavar="HOST:PORT",
        help="with --whole: where the cache fetches; may be repeated",
    )
    option(
        "--port", type=values.port, metavar="N", help="with --whole: of the cache (default: its node's, 80)"
    )
    option(
        "--certificate",
        type=values.path,
        metavar="F",
        help="with --whole: PEM file with which the cache takes TLS, too; its key is in there as well",
    )
    option("--certificate-key", type=values.path, metavar="F", help="the key, where it is in another file")
    option("--tls-port", type=values.port, metavar="N", help="with --certificate (default 443)")
    option(
        "--to",
        type=Path,
        metavar="DIR",
        help="with --whole: write the files into this folder, print their names",
    )


def add_report_groups(option: Callable[..., argparse.Action]) -> None:
    """Add the options of ``report-groups``."""
    option("--instance", metavar="DIR", help="of varnishd: what its -n says (default: the machine's)")
    option(
        "--varnishlog",
        default="varnishlog",
        metavar="F",
        help="the program that reads its log (default: varnishlog on the PATH)",
    )
    option(
        "--since",
        type=values.seconds,
        default=_SINCE_S,
        metavar="S",
        help="seconds for which the log goes back at the start: what was answered while this command was "
        f"away (default {_SINCE_S})",
    )


def add_from(option: Callable[..., argparse.Action]) -> None:
    """Add who may purge."""
    option(
        "--from",
        dest="purge_from",
        action="append",
        type=values.network,
        metavar="ADDRESS",
        help=f"address or network of an engine; may be repeated (default {rendering.ENGINE_HERE})",
    )
