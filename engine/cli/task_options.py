"""Options of the commands that hand tasks in: ``purge`` and ``prefetch``."""

from __future__ import annotations

from engine.cli import cells, outbox_options, values
from engine.cli.options import flag, give, opt, several

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from typing import Final

_TARGETS: Final = (
    opt("targets", nargs="*", metavar="URL", help="what to work on; - reads standard input"),
    several("--file", "F", "read targets from F too; # starts a comment line"),
)
_KINDS: Final = (
    ("prefix", "targets are prefixes of URLs"),
    ("regex", "targets are regular expressions"),
    ("key", "targets are HOST/KEY, a surrogate key"),
    ("host", "targets are whole hosts"),
)
_PURGE: Final = (
    flag("--soft", "mark stale instead of dropping"),
    flag("--prefetch", "fetch again after the purge"),
    opt(
        "--on-incapable",
        choices=["refuse", "skip"],
        help="when some nodes cannot purge like this: refuse the task, or skip and name them "
        "(default: the engine's on_incapable)",
    ),
    opt(
        "--rebound",
        type=values.rebound,
        metavar="S",
        help="purge each URL once more after S seconds; 0: do not (default: the engine's rebound_s)",
    ),
)
_VERIFY: Final = (
    opt(
        "--verify",
        type=values.verify,
        metavar="HOW",
        help="visit each cache after its ack, and compare what it serves with the origin: all targets, "
        "sample:N of them, or off (default: the engine's [proof] verify)",
    ),
    opt(
        "--verify-url",
        action="append",
        metavar="URL",
        help="verify by this page, where targets are no URLs; may be repeated",
    ),
)
_TASK: Final = (
    flag("--literal", "a URL that ends in * is meant so, and is no mistaken prefix"),
    flag("--wait", "wait until it is settled; the exit code tells how"),
    several("--layer", "NAME", "only this layer; may be repeated"),
    several("--node", "NAME", "only this node; may be repeated"),
    several("--group", "NAME", "only nodes of this group; may be repeated"),
    opt(
        "--id", type=values.task_id, metavar="ID", help="the task's id: repeating a request under it is safe"
    ),
    opt(
        "--due",
        type=values.seconds,
        metavar="S",
        help="seconds after which what is undelivered counts as partial",
    ),
    opt(
        "--at",
        type=values.moment,
        metavar="TIME",
        help="begin then: UNIX seconds, or 2026-11-30T04:00 (local time; with Z or +01:00 another)",
    ),
    opt("--callback", metavar="URL", help="is told when the task is settled"),
    outbox_options.folder("what no engine takes is kept in this folder, and sent later"),
    flag("--confirm", "mean it, where a site's confirm_over asks back"),
    flag(
        "--dry-run",
        "say what it would do: nothing is stored or sent. "
        f"Columns of nodes in a pipe: {' '.join(cells.PREVIEW_COLUMNS)}",
    ),
)


def add_task_options(parser: argparse.ArgumentParser, *, is_purge: bool) -> None:
    """Add the options of a command; *is_purge*: it is not `prefetch`."""
    give(parser.add_argument, _TARGETS)
    parser.set_defaults(kind="url", soft=False, prefetch=False, on_incapable=None, rebound=None)
    parser.set_defaults(verify=None, verify_url=None)
    if is_purge:
        kinds = parser.add_mutually_exclusive_group()
        for kind, text in _KINDS:
            kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=text)
        give(parser.add_argument, _PURGE)
        give(parser.add_mutually_exclusive_group().add_argument, _VERIFY)
    give(parser.add_argument, _TASK)
