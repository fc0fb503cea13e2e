"""``purgeline render``: the lines that a cache needs to be purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.cli.exits import DONE, UsageError

if TYPE_CHECKING:
    import argparse

    from engine.cli.fragments import Setting
    from engine.cli.screen import Output
    from engine.config.tables import Config, NodeConfig

CACHES: Final = ("varnish", "nginx", "ats", "squid")
NO_NAME: Final = "NAME-OF-THE-NODE"
ENGINE_HERE: Final = "127.0.0.1"


def render(args: argparse.Namespace, out: Output) -> int:
    """Print the lines for one cache, to be pasted into the configuration that it has."""
    from engine.cli.fragments import fragment  # noqa: PLC0415 - only this command needs Jinja

    setting = _setting(args)
    if setting.node == NO_NAME:
        out.notice(f"replace {NO_NAME} by the node's name in engine.toml, or name it with --node")
    lines = fragment(setting)
    if out.as_json:
        out.json({"cache": args.cache, "node": setting.node, "lines": lines})
    else:
        out.text(lines)
    return DONE


def _setting(args: argparse.Namespace) -> Setting:
    from engine.cli.fragments import Setting, setting_of  # noqa: PLC0415 - as above

    engines = args.purge_from or [ENGINE_HERE]
    if args.config is None:
        setting = Setting(args.cache, args.node or NO_NAME, engines, key_mode=args.key_mode or "xkey")
        return setting._replace(tag_headers=args.tag_headers)
    from engine.config.load import load  # noqa: PLC0415 - as above

    config = load(args.config)
    node = _chosen(config, args.cache, args.node)
    setting = setting_of(node, config, purge_from=engines, is_parent=is_parent(node, config))
    setting = setting._replace(tag_headers=args.tag_headers)
    return setting._replace(key_mode=args.key_mode) if args.key_mode else setting


def is_parent(node: NodeConfig, config: Config) -> bool:
    """Tell whether another node fetches from this one."""
    return any(node.name in (other.parents or ()) for other in config.node)


def _chosen(config: Config, cache: str, name: str | None) -> NodeConfig:
    """Return the node that is meant.

    Raises:
        UsageError: there is no such node, or it cannot be told which one is meant.
    """
    nodes = [node for node in config.node if node.driver == cache]
    names = ", ".join(node.name for node in nodes)
    if name is None:
        if len(nodes) == 1:
            return nodes[0]
        raise UsageError(
            f"--node: which one of {names}?" if nodes else f"no [[node]] has the driver {cache!r}"
        )
    for node in nodes:
        if node.name == name:
            return node
    raise UsageError(f"--node: {name!r} is no [[node]] with the driver {cache!r}; there is {names or 'none'}")
