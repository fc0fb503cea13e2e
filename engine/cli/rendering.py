"""``purgeline render``: the lines that a cache needs to be purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.cli.exits import DONE, FAILED, UNREACHABLE, UsageError

if TYPE_CHECKING:
    import argparse

    from engine.cli.fragments import Setting
    from engine.cli.screen import Output
    from engine.cli.whole import Place
    from engine.config.tables import Config, NodeConfig

CACHES: Final = ("varnish", "nginx", "ats", "squid")
NO_NAME: Final = "NAME-OF-THE-NODE"
ENGINE_HERE: Final = "127.0.0.1"


def render(args: argparse.Namespace, out: Output) -> int:
    """Print the lines for one cache, write them into a folder, or have the cache check them."""
    from engine.cli.fragments import fragment  # noqa: PLC0415 - only this command needs Jinja

    setting = _setting(args)
    _check_options(args)
    if args.check:
        if args.to:
            raise UsageError("--check writes nothing: leave --to for a second call")
        return _check(setting, args, out)
    _notice(args, setting, out)
    if not args.whole:
        _show(setting, fragment(setting), out)
        return DONE
    from engine.cli import whole  # noqa: PLC0415 - as above

    files = whole.whole_files(setting, _place(args))
    if args.to:
        whole.write(files, args.to)
        for file in files:
            out.notice(f"{args.to / file.name} written, to be saved {file.place}")
            if file.has_secret:
                out.notice(f"{file.name} has the node's secret: let nobody but the cache read it (chgrp)")
    else:
        _show(setting, whole.whole(files), out)
    return DONE


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: says which.
    """
    if args.whole and not args.backends:
        raise UsageError("--whole: takes --backend HOST:PORT, where the cache fetches")
    if not args.whole and (args.backends or args.port or args.certificate or args.to):
        raise UsageError("--backend, --port, --certificate and --to are for --whole")
    if args.group_reports and args.cache != "varnish":
        raise UsageError(f"--group-reports: {args.cache} tells nobody what origins invalidate; Varnish does")
    if not args.certificate and (args.certificate_key or args.tls_port):
        raise UsageError("--certificate-key and --tls-port are for --certificate")


def _notice(args: argparse.Namespace, setting: Setting, out: Output) -> None:
    """Say what the lines alone do not do."""
    if args.cache == "varnish" and args.port:
        out.notice("--port changes nothing: Varnish listens where its command says (-a), not in its VCL")
    if args.group_reports:
        out.notice("--group-reports: run `purgeline report-groups` beside this Varnish, which reads its log")
    if setting.node == NO_NAME:
        out.notice(f"replace {NO_NAME} by the node's name in engine.toml, or name it with --node")


def _show(setting: Setting, lines: str, out: Output) -> None:
    if out.as_json:
        out.json({"cache": setting.driver, "node": setting.node, "lines": lines})
    else:
        out.text(lines)


def _check(setting: Setting, args: argparse.Namespace, out: Output) -> int:
    """Print what the cache's own check says, and what that means."""
    from engine.cli.trial import MissingError, try_out  # noqa: PLC0415 - as above

    try:
        trial = try_out(setting, _place(args) if args.whole else None)
    except MissingError as exc:
        return out.error(str(exc), exit_code=UNREACHABLE)
    if out.as_json:
        out.json({"cache": setting.driver, "node": setting.node, **trial._asdict()})
    else:
        out.text(f"$ {trial.command}\n{trial.output.rstrip()}\n{trial.meaning}\n".replace("\n\n", "\n"))
    return DONE if trial.is_accepted else FAILED


def _place(args: argparse.Namespace) -> Place:
    """Return where a cache with a whole configuration stands."""
    from engine.cli.whole import TLS_PORT, Place, Tls  # noqa: PLC0415 - as above

    if not args.certificate:
        return Place(args.backends)
    key = args.certificate_key or args.certificate
    return Place(args.backends, Tls(args.tls_port or TLS_PORT, args.certificate, key))


def _setting(args: argparse.Namespace) -> Setting:
    from engine.cli.fragments import Setting, setting_of  # noqa: PLC0415 - as above

    engines = args.purge_from or [ENGINE_HERE]
    if args.config is None:
        setting = Setting(args.cache, args.node or NO_NAME, engines, key_mode=args.key_mode or "xkey")
        return _with_options(setting, args)
    from engine.config.load import load  # noqa: PLC0415 - as above

    config = load(args.config)
    node = _chosen(config, args.cache, args.node)
    setting = setting_of(node, config, purge_from=engines, is_parent=is_parent(node, config))
    setting = _with_options(setting, args)
    return setting._replace(key_mode=args.key_mode) if args.key_mode else setting


def _with_options(setting: Setting, args: argparse.Namespace) -> Setting:
    return setting._replace(
        tag_headers=args.tag_headers, group_reports=args.group_reports, port=args.port or setting.port
    )


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
