"""Which commands there are, in groups that import what they need when one of theirs is asked for.

A group names its commands, so a start finds the one that is asked for before it imports anything of it.
"""

from __future__ import annotations

from engine.base.tuples import NamedTuple
from engine.cli import values
from engine.cli.options import CONFIG, flag, opt

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from engine.cli.parser import Commands


class Group(NamedTuple):
    """Commands of one module, or of a few."""

    names: tuple[str, ...]
    fill: Callable[[Commands], None]  #: adds those that are wanted


def _serve(commands: Commands) -> None:
    """Add the engine itself."""
    from engine.cli import local

    options = (
        opt(
            "--config",
            type=values.file,
            metavar="F",
            help="TOML file (default: none, an engine without caches yet)",
        ),
        opt(
            "--workers",
            type=values.count,
            metavar="N",
            help="run so many processes under a supervisor, which reloads on SIGHUP without a pause",
        ),
    )
    commands.add("serve", local.serve, "Run the engine until it is told to stop.", options)


def _tasks(commands: Commands) -> None:
    """Add what hands tasks in."""
    from engine.cli import submit, task_options

    for name, text in (
        ("purge", "Purge targets."),
        ("prefetch", "Fetch URLs into the caches ahead of time."),
    ):
        commands.add(
            name, submit.hand_in, f"{text} Without a URL they are read from standard input, one a line."
        )
        if name in commands.made:
            task_options.add_task_options(commands.made[name], is_purge=name == "purge")


def _task(commands: Commands) -> None:
    """Add what is done with one task."""
    from engine.cli import views

    add = commands.add
    one = opt("id", type=values.task_id, metavar="ID")
    some = opt("ids", type=values.task_id, metavar="ID", nargs="+")
    leaves = flag("--leaves", "ask nodes that are engines what each cache below them did")
    add("status", views.status, "Show a task.", (one, leaves))
    add("watch", views.watch, "Show the progress of tasks until they are settled.", (some,))
    add("cancel", views.cancel, "Cancel a task: nothing of it is sent again.", (one,))


def _past(commands: Commands) -> None:
    """Add what has been, and what sends it again."""
    from engine.cli import cells, history, past_options, views

    commands.add(
        "tasks",
        views.tasks,
        f"List tasks. Columns in a pipe: {' '.join(cells.TASK_COLUMNS)}.",
        past_options.TASKS,
    )
    commands.add(
        "history",
        history.history,
        "Show who purged a target, by URL, prefix, regex, key or host, when, and what each node made of "
        f"it, newest first. Columns in a pipe: {' '.join(cells.HISTORY_COLUMNS)}.",
        past_options.HISTORY,
    )
    past_options.add_again(commands.add)


def _why(commands: Commands) -> None:
    """Add the question why."""
    from engine.cli import cells, why

    add = commands.add
    add(
        "why",
        why.why,
        "Say why visitors get what they get: what each cache serves of a page now, beside the origin, and "
        f"the last purges that cover it. Columns of nodes in a pipe: {' '.join(cells.WHY_COLUMNS)}.",
    )("url", metavar="URL")


def _holds(commands: Commands) -> None:
    """Add what an operator does with one cache."""
    from engine.cli import views

    add = commands.add
    node = (opt("node", metavar="NODE"),)
    add("forget", views.forget, "Fail what waits for a cache that is not configured any more.", node)
    add("pause", views.pause, "Have what is for a cache wait until it is resumed; nothing is lost.", node)
    add("resume", views.resume, "Deliver what waits for a cache that was paused.", node)


def _silences(commands: Commands) -> None:
    """Add silences of alerts."""
    from engine.cli import silences

    silences.add_silences(commands.add)


def _overview(commands: Commands) -> None:
    """Add the lists, and the version."""
    from engine.cli import cells, views

    add = commands.add
    leaves = flag("--leaves", "also those below nodes that are engines, as eu/edge-7")
    add("nodes", views.nodes, f"List caches. Columns in a pipe: {' '.join(cells.NODE_COLUMNS)}.", (leaves,))
    add(
        "cluster", views.cluster, f"List the engines of one Redis. Columns: {' '.join(cells.ENGINE_COLUMNS)}."
    )
    add("stats", views.stats, "Show the engine's queues and rates.")
    add("version", views.version, "Show the version of this command and, when it answers, of the engine.")


def _outbox(commands: Commands) -> None:
    """Add the outbox."""
    from engine.cli import outbox_options

    outbox_options.add_outbox(commands.add)


def _receipts(commands: Commands) -> None:
    """Add receipts."""
    from engine.cli import receipts

    add = commands.add
    add("receipt", receipts.receipt, "Print a settled task, signed, to be shown to somebody else.")(
        "id", type=values.task_id, metavar="ID"
    )
    add("keys", receipts.keys, "Print the public keys of receipts, as a JSON Web Key Set.")
    options = (
        opt("receipt", metavar="F", help="file, as `receipt` printed it"),
        opt(
            "--keys",
            metavar="F",
            help="file with the keys that are trusted, as `keys` prints them (default: ask)",
        ),
        flag("--live", "also compare it with the task as the engine has it now"),
    )
    text = "Check a receipt, and show what it says; offline with --keys."
    add("verify-receipt", receipts.verify_receipt, text, options)


def _recordings(commands: Commands) -> None:
    """Add recordings of traffic."""
    from engine.cli import recording, recording_options, replaying

    commands.add(
        "record",
        recording.record,
        "Write the requests of a running engine and its answers to a file (GoReplay's format), without "
        "tokens and other secrets, until Ctrl-C. Exits with 1 when some are missing in it.",
        recording_options.RECORD,
    )
    commands.add(
        "replay",
        replaying.replay,
        "Send a recording of traffic (GoReplay's format) to an engine, with ids of its own and without "
        "callbacks, and compare the answers with those that were recorded, or with those of another engine. "
        "Exits with 1 when they differ.",
        recording_options.REPLAY,
    )


def _debug(commands: Commands) -> None:
    """Add the looks into a running engine."""
    from engine.cli import debug_options

    if (command := commands.parser("debug", debug_options.TEXT, is_plain=True)) is not None:
        debug_options.add_looks(command, commands.shared)


def _cdni(commands: Commands) -> None:
    """Add the client of another CDN."""
    from engine.cli import cdni

    cdni.add_options(
        commands.add(
            "cdni", cdni.cdni, "Have another CDN purge, invalidate or preposition: CDNI triggers, RFC 8007."
        )
    )


def _render(commands: Commands) -> None:
    """Add what writes a cache's configuration."""
    from engine.cli import cache_options, rendering

    text = "Print what a cache needs to be purged: lines to paste, and where."
    commands.add("render", rendering.render, text, cache_options.RENDER)


def _groups(commands: Commands) -> None:
    """Add what reports groups."""
    from engine.cli import cache_options, group_reports

    text = "Beside a Varnish: have the groups that origins invalidate (RFC 9875) purged at every cache."
    commands.add("report-groups", group_reports.report_groups, text, cache_options.REPORT_GROUPS)


def _monitoring(commands: Commands) -> None:
    """Add what Prometheus and Grafana read."""
    from engine.cli import monitoring

    monitoring.add_options(
        commands.add(
            "monitoring", monitoring.monitoring, "Write rules for Prometheus and a dashboard for Grafana."
        )
    )


def _terminal(commands: Commands) -> None:
    """Add commands for a terminal."""
    from engine.cli import terminal_options

    terminal_options.add_commands(commands.add)


def _worker(commands: Commands) -> None:
    """Add the worker, which supervisors call."""
    from engine.cli import local

    if (command := commands.parser("worker", is_plain=True)) is not None:
        command.add_argument("--config", type=values.file, required=True)
        command.set_defaults(run=local.work)


def _migrate(commands: Commands) -> None:
    """Add the copy of a store."""
    from engine.cli import local

    options = (
        opt("--from", dest="source", required=True, metavar="URL", help="such as sqlite:"),
        opt("--to", dest="target", required=True, metavar="URL", help="such as redis://host:6379/0; empty"),
        CONFIG,
        opt(
            "--workers",
            type=values.count,
            metavar="N",
            help="for sqlite:DIR: the engine there runs N (default 1)",
        ),
    )
    text = "Copy all tasks from one store to another; both without engines."
    commands.add("migrate", local.move_store, text, options)


def _check_nodes(commands: Commands) -> None:
    """Add the question whose purges a node's are."""
    from engine.cli import cache_options, cells, check_nodes

    commands.add(
        "check-nodes",
        check_nodes.check_nodes,
        "Ask every node whether its purges are its own, one line each, and say what to change. "
        f"Columns in a pipe: {' '.join(cells.CHECK_COLUMNS)}.",
        cache_options.CHECK_NODES,
    )


def _doctor(commands: Commands) -> None:
    """Add the look at the machine."""
    from engine.cli import cells, doctor

    commands.add(
        "doctor",
        doctor.doctor,
        "Look at this machine, its engine, Redis and caches: limits, what is near them, and what mends it. "
        f"Columns in a pipe: {' '.join(cells.DOCTOR_COLUMNS)}.",
        (CONFIG,),
    )


def _check_config(commands: Commands) -> None:
    """Add the check of a configuration."""
    from engine.cli import local

    file = opt("config", type=values.file, metavar="F", help="TOML file")
    commands.add(
        "check-config", local.check_config, "Check a configuration and show what it would run.", (file,)
    )


GROUPS: Final = (
    Group(("serve",), _serve),
    Group(("purge", "prefetch"), _tasks),
    Group(("status", "watch", "cancel"), _task),
    Group(("tasks", "history", "retry", "rewind"), _past),
    Group(("why",), _why),
    Group(("forget", "pause", "resume"), _holds),
    Group(("silence", "silences", "unsilence"), _silences),
    Group(("nodes", "cluster", "stats", "version"), _overview),
    Group(("outbox",), _outbox),
    Group(("receipt", "keys", "verify-receipt"), _receipts),
    Group(("record", "replay"), _recordings),
    Group(("debug",), _debug),
    Group(("cdni",), _cdni),
    Group(("render",), _render),
    Group(("report-groups",), _groups),
    Group(("monitoring",), _monitoring),
    Group(("top", "init", "completion", "man"), _terminal),
    Group(("worker",), _worker),
    Group(("migrate",), _migrate),
    Group(("check-nodes",), _check_nodes),
    Group(("doctor",), _doctor),
    Group(("check-config",), _check_config),
)  #: in the order that help lists them
