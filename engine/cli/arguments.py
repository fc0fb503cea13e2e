"""Arguments: which commands there are, and what each takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine._version import __version__
from engine.cli import (
    cache_options,
    cdni,
    cells,
    check_nodes,
    client,
    debug_options,
    doctor,
    group_reports,
    history,
    local,
    monitoring,
    outbox_options,
    past_options,
    receipts,
    recording_options,
    rendering,
    silences,
    submit,
    terminal_options,
    values,
    views,
    why,
)
from engine.cli.parser import Parser
from engine.client.address import URL_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.cli.screen import Output

    Command = Callable[[argparse.Namespace, Output], int]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of one command; global options may stand before and after its name.

    Raises:
        SystemExit: after ``--help`` (0) or a mistake (2), both told already.
    """
    parser, commands = _parsers()
    args, rest = parser.parse_known_args(argv)
    if rest:
        # argparse takes URLs in one place only; those between or after options arrive here.
        end = rest.index("--") if "--" in rest else len(rest)
        if not hasattr(args, "targets") or any(word.startswith("-") and word != "-" for word in rest[:end]):
            commands[args.command].unknown(rest)
        args.targets += rest[:end] + rest[end + 1 :]
    return args


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="purgeline",
        description="Purges and prefetches content on every cache, through the engine.",
        epilog="Exit codes: 0 done or accepted, 1 failed or partial, 2 usage, 3 engine unreachable.",
        allow_abbrev=False,
    )
    shared = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_globals(shared)
    _add_globals(parser)
    parser.add_argument("--version", action="version", version=f"purgeline {__version__}")
    parser.set_defaults(engine=None, token=None, json=False, timeout=None)
    places = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: dict[str, Parser] = {}

    def add(name: str, run: Command, text: str) -> Callable[..., argparse.Action]:
        command = places.add_parser(name, help=text, description=text, parents=[shared], allow_abbrev=False)
        command.set_defaults(run=run)
        commands[name] = command
        return command.add_argument

    _add_engine(add)
    for name, text in (
        ("purge", "Purge targets."),
        ("prefetch", "Fetch URLs into the caches ahead of time."),
    ):
        add(name, submit.hand_in, f"{text} Without a URL they are read from standard input, one a line.")
        _add_task_options(commands[name], is_purge=name == "purge")
    _add_views(add)
    outbox_options.add_outbox(add)
    _add_receipts(add)
    recording_options.add_record(add)
    recording_options.add_replay(add)
    commands["debug"] = places.add_parser(
        "debug", help=debug_options.TEXT, description=debug_options.TEXT, allow_abbrev=False
    )
    debug_options.add_looks(commands["debug"], shared)
    cdni.add_options(
        add("cdni", cdni.cdni, "Have another CDN purge, invalidate or preposition: CDNI triggers, RFC 8007.")
    )
    cache_options.add_render(
        add("render", rendering.render, "Print what a cache needs to be purged: lines to paste, and where.")
    )
    cache_options.add_report_groups(
        add(
            "report-groups",
            group_reports.report_groups,
            "Beside a Varnish: have the groups that origins invalidate (RFC 9875) purged at every cache.",
        )
    )
    monitoring.add_options(
        add("monitoring", monitoring.monitoring, "Write rules for Prometheus and a dashboard for Grafana.")
    )
    terminal_options.add_commands(add)
    worker = places.add_parser("worker")  # without a help text it is not listed: supervisors call it
    worker.add_argument("--config", type=Path, required=True)
    worker.set_defaults(run=local.work)
    _add_local(add)
    return parser, commands


def _add_engine(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    option = add("serve", local.serve, "Run the engine until it is told to stop.")
    option("--config", type=Path, metavar="F", help="TOML file (default: none, an engine without caches yet)")
    option(
        "--workers",
        type=values.count,
        metavar="N",
        help="run so many processes under a supervisor, which reloads on SIGHUP without a pause",
    )


def _add_local(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    option = add(
        "migrate", local.move_store, "Copy all tasks from one store to another; both without engines."
    )
    option("--from", dest="source", required=True, metavar="URL", help="such as sqlite:")
    option("--to", dest="target", required=True, metavar="URL", help="such as redis://host:6379/0; empty")
    option("--config", type=Path, required=True, metavar="F", help="TOML file of the engine")
    option(
        "--workers",
        type=values.count,
        metavar="N",
        help="for sqlite:DIR: the engine there runs N (default 1)",
    )
    option = add(
        "check-nodes",
        check_nodes.check_nodes,
        "Ask every node whether its purges are its own, one line each, and say what to change. "
        f"Columns in a pipe: {' '.join(cells.CHECK_COLUMNS)}.",
    )
    option("--config", type=Path, required=True, metavar="F", help="TOML file of the engine")
    option("--node", action="append", default=[], metavar="NAME", help="only this node; may be repeated")
    option(
        "--url", metavar="URL", help="a page that the nodes cache: fetched and purged where a look is needed"
    )
    cache_options.add_from(option)
    option = add(
        "doctor",
        doctor.doctor,
        "Look at this machine, its engine, Redis and caches: limits, what is near them, and what mends it. "
        f"Columns in a pipe: {' '.join(cells.DOCTOR_COLUMNS)}.",
    )
    option("--config", type=Path, required=True, metavar="F", help="TOML file of the engine")
    option = add("check-config", local.check_config, "Check a configuration and show what it would run.")
    option("config", type=Path, metavar="F", help="TOML file")


def _add_views(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    add("status", views.status, "Show a task.")("id", type=values.task_id, metavar="ID")
    add("watch", views.watch, "Show the progress of tasks until they are settled.")(
        "ids", type=values.task_id, metavar="ID", nargs="+"
    )
    add("cancel", views.cancel, "Cancel a task: nothing of it is sent again.")(
        "id", type=values.task_id, metavar="ID"
    )
    option = add("tasks", views.tasks, f"List tasks. Columns in a pipe: {' '.join(cells.TASK_COLUMNS)}.")
    option("--target", default="", metavar="TARGET", help="only tasks that cover a URL, HOST/KEY or a host")
    past_options.add_filters(option)
    past_options.add_history(
        add(
            "history",
            history.history,
            "Show who purged a target, by URL, prefix, regex, key or host, when, and what each node made of "
            f"it, newest first. Columns in a pipe: {' '.join(cells.HISTORY_COLUMNS)}.",
        )
    )
    past_options.add_again(add)
    add(
        "why",
        why.why,
        "Say why visitors get what they get: what each cache serves of a page now, beside the origin, and "
        f"the last purges that cover it. Columns of nodes in a pipe: {' '.join(cells.WHY_COLUMNS)}.",
    )("url", metavar="URL")
    add("forget", views.forget, "Fail what waits for a cache that is not configured any more.")(
        "node", metavar="NODE"
    )
    add("pause", views.pause, "Have what is for a cache wait until it is resumed; nothing is lost.")(
        "node", metavar="NODE"
    )
    add("resume", views.resume, "Deliver what waits for a cache that was paused.")("node", metavar="NODE")
    silences.add_silences(add)
    add("nodes", views.nodes, f"List caches. Columns in a pipe: {' '.join(cells.NODE_COLUMNS)}.")
    add(
        "cluster", views.cluster, f"List the engines of one Redis. Columns: {' '.join(cells.ENGINE_COLUMNS)}."
    )
    add("stats", views.stats, "Show the engine's queues and rates.")
    add("version", views.version, "Show the version of this command and, when it answers, of the engine.")


def _add_receipts(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    add("receipt", receipts.receipt, "Print a settled task, signed, to be shown to somebody else.")(
        "id", type=values.task_id, metavar="ID"
    )
    add("keys", receipts.keys, "Print the public keys of receipts, as a JSON Web Key Set.")
    option = add(
        "verify-receipt",
        receipts.verify_receipt,
        "Check a receipt, and show what it says; offline with --keys.",
    )
    option("receipt", metavar="F", help="file, as `receipt` printed it")
    option(
        "--keys",
        metavar="F",
        help="file with the keys that are trusted, as `keys` prints them (default: ask)",
    )
    option("--live", action="store_true", help="also compare it with the task as the engine has it now")


def _add_globals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("every command")
    group.add_argument(
        "--engine",
        metavar="URL",
        help=f"or several between commas, tried in order (default: $PURGELINE_URL or {URL_DEFAULT})",
    )
    group.add_argument(
        "--token",
        metavar="T",
        help="default: $PURGELINE_TOKEN, or what the file $PURGELINE_TOKEN_FILE has; both are better: other "
        "users of this machine can see arguments",
    )
    group.add_argument("--json", action="store_true", help="print JSON, one document a line")
    group.add_argument(
        "--timeout",
        type=values.seconds,
        metavar="S",
        help=f"seconds to wait for an answer (default {client.TIMEOUT_S:g})",
    )


def _add_purge_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--soft", action="store_true", help="mark stale instead of dropping")
    option("--prefetch", action="store_true", help="fetch again after the purge")
    option(
        "--on-incapable",
        choices=["refuse", "skip"],
        help="when some nodes cannot purge like this: refuse the task, or skip and name them "
        "(default: the engine's on_incapable)",
    )
    option(
        "--rebound",
        type=values.rebound,
        metavar="S",
        help="purge each URL once more after S seconds; 0: do not (default: the engine's rebound_s)",
    )
    option = parser.add_mutually_exclusive_group().add_argument
    option(
        "--verify",
        type=values.verify,
        metavar="HOW",
        help="visit each cache after its ack, and compare what it serves with the origin: all targets, "
        "sample:N of them, or off (default: the engine's [proof] verify)",
    )
    option(
        "--verify-url",
        action="append",
        metavar="URL",
        help="verify by this page, where targets are no URLs; may be repeated",
    )


def _add_task_options(parser: argparse.ArgumentParser, *, is_purge: bool) -> None:
    option = parser.add_argument
    option("targets", nargs="*", metavar="URL", help="what to work on; - reads standard input")
    option(
        "--file",
        action="append",
        default=[],
        metavar="F",
        help="read targets from F too; # starts a comment line",
    )
    parser.set_defaults(kind="url", soft=False, prefetch=False, on_incapable=None, rebound=None)
    parser.set_defaults(verify=None, verify_url=None)
    if is_purge:
        kinds = parser.add_mutually_exclusive_group()
        for kind, text in (
            ("prefix", "targets are prefixes of URLs"),
            ("regex", "targets are regular expressions"),
            ("key", "targets are HOST/KEY, a surrogate key"),
            ("host", "targets are whole hosts"),
        ):
            kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=text)
        _add_purge_options(parser)
    option(
        "--literal", action="store_true", help="a URL that ends in * is meant so, and is no mistaken prefix"
    )
    option("--wait", action="store_true", help="wait until it is settled; the exit code tells how")
    option("--layer", action="append", default=[], metavar="NAME", help="only this layer; may be repeated")
    option("--node", action="append", default=[], metavar="NAME", help="only this node; may be repeated")
    option(
        "--id", type=values.task_id, metavar="ID", help="the task's id: repeating a request under it is safe"
    )
    option(
        "--due",
        type=values.seconds,
        metavar="S",
        help="seconds after which what is undelivered counts as partial",
    )
    option(
        "--at",
        type=values.moment,
        metavar="TIME",
        help="begin then: UNIX seconds, or 2026-11-30T04:00 (local time; with Z or +01:00 another)",
    )
    option("--callback", metavar="URL", help="is told when the task is settled")
    outbox_options.add_folder(option, "what no engine takes is kept in this folder, and sent later")
    option("--confirm", action="store_true", help="mean it, where a site's confirm_over asks back")
    option(
        "--dry-run",
        action="store_true",
        help="say what it would do: nothing is stored or sent. "
        f"Columns of nodes in a pipe: {' '.join(cells.PREVIEW_COLUMNS)}",
    )
