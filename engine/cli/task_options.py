"""Options of the commands that hand tasks in: ``purge`` and ``prefetch``."""

from __future__ import annotations

from engine.cli import cells, outbox_options, values

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse


def _add_purge_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group()
    for kind, text in (
        ("prefix", "targets are prefixes of URLs"),
        ("regex", "targets are regular expressions"),
        ("key", "targets are HOST/KEY, a surrogate key"),
        ("host", "targets are whole hosts"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=text)
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


def add_task_options(parser: argparse.ArgumentParser, *, is_purge: bool) -> None:
    """Add the options of a command; *is_purge*: it is not `prefetch`."""
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
