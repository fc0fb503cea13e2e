"""The command ``purgeline``: reads arguments, asks the engine, prints, and exits with how it went.

Exit codes: 0 done, or accepted without ``--wait``; 1 failed or partial; 2 the request or the
configuration is wrong; 3 no engine answered, or it stays too busy; 130 after Ctrl-C. Never a
traceback, unless Python runs in development mode (``python -X dev -m engine``).

What only some commands need is imported when they run: the engine for ``serve``, msgspec for
configuration, rich for a terminal.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine._version import __built_at__, __revision__, __version__
from engine.cli import client as api
from engine.cli import render
from engine.errors import ConfigError, EngineError
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Command = Callable[[argparse.Namespace, render.Output], int]

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130  #: exit codes; the worst of several counts

VERSION_TIMEOUT_S = 2.0  #: `version` does not wait long for an engine that need not be there
IDS_SHOWN = 5  #: task ids that a hint names
ID_MAX = 64  #: characters of a task id
ABOUT_ONE_TASK = frozenset({400, 409, 413, 422})  #: refusals that say nothing about the next task
AWAY = frozenset({429, 502, 503, 504})


class UsageError(EngineError):
    """The command line asks for what cannot be done; the text says what to change."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    out = render.Output(as_json=False)
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        out = render.Output(as_json=args.json)
        command: Command = args.run
        code = command(args, out)
    except SystemExit as exc:  # argparse: 0 after --help, 2 after its own message
        code = exc.code if isinstance(exc.code, int) else USAGE
    except KeyboardInterrupt:
        code = out.error("interrupted", exit_code=INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - a user gets one line, whatever it was
        code = _fail(out, exc)
    try:
        render.finish()
    except OSError as exc:
        render.discard()
        code = max(code, out.error(f"the output could not be written: {exc}", exit_code=FAILED))
    return code


# --- arguments ---------------------------------------------------------------------------------


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
            commands[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
        args.targets += rest[:end] + rest[end + 1 :]
    return args


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="purgeline",
        description="Purges and prefetches content on every cache, through the engine.",
        epilog="Exit codes: 0 done or accepted, 1 failed or partial, 2 usage, 3 engine unreachable.",
        allow_abbrev=False,
    )
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_globals(shared)
    _add_globals(parser)
    parser.set_defaults(engine=None, token=None, json=False, timeout=None)
    places = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, run: Command, text: str) -> Callable[..., argparse.Action]:
        command = places.add_parser(name, help=text, description=text, parents=[shared], allow_abbrev=False)
        command.set_defaults(run=run)
        commands[name] = command
        return command.add_argument

    option = add("serve", _serve, "Run the engine until it is told to stop.")
    option("--config", type=Path, required=True, metavar="F", help="TOML file")
    option(
        "--workers",
        type=_count,
        metavar="N",
        help="run so many processes under a supervisor, which reloads on SIGHUP without a pause",
    )
    for name, text in (
        ("purge", "Purge targets."),
        ("prefetch", "Fetch URLs into the caches ahead of time."),
    ):
        add(name, _hand_in, f"{text} Without a URL they are read from standard input, one a line.")
        _add_task_options(commands[name], is_purge=name == "purge")
    _add_views(add)
    option = add("migrate", _migrate, "Copy all tasks from one store to another; both without engines.")
    option("--from", dest="source", required=True, metavar="URL", help="such as sqlite:")
    option("--to", dest="target", required=True, metavar="URL", help="such as redis://host:6379/0; empty")
    option("--config", type=Path, required=True, metavar="F", help="TOML file of the engine")
    option("--workers", type=_count, metavar="N", help="for sqlite:DIR: the engine there runs N (default 1)")
    worker = places.add_parser("worker")  # without a help text it is not listed: supervisors call it
    worker.add_argument("--config", type=Path, required=True)
    worker.set_defaults(run=_work)
    option = add("check-config", _check_config, "Check a configuration and show what it would run.")
    option("config", type=Path, metavar="F", help="TOML file")
    return parser, commands


def _add_views(add: Callable[[str, Command, str], Callable[..., argparse.Action]]) -> None:
    add("status", _status, "Show a task.")("id", type=_task_id, metavar="ID")
    add("watch", _watch, "Show the progress of tasks until they are settled.")(
        "ids", type=_task_id, metavar="ID", nargs="+"
    )
    add("cancel", _cancel, "Cancel what was not sent of a task.")("id", type=_task_id, metavar="ID")
    option = add("tasks", _tasks, f"List tasks. Columns in a pipe: {' '.join(render.TASK_COLUMNS)}.")
    option("--state", choices=[*State], default="", help="only these")
    option("--limit", type=_count, default=50, metavar="N", help="at most so many (default 50)")
    add("nodes", _nodes, f"List caches. Columns in a pipe: {' '.join(render.NODE_COLUMNS)}.")
    add("cluster", _cluster, f"List the engines of one Redis. Columns: {' '.join(render.ENGINE_COLUMNS)}.")
    add("stats", _stats, "Show the engine's queues and rates.")
    add("version", _version, "Show the version of this command and, when it answers, of the engine.")


def _add_globals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("every command")
    group.add_argument("--engine", metavar="URL", help=f"default: $PURGELINE_URL or {api.URL_DEFAULT}")
    group.add_argument(
        "--token",
        metavar="T",
        help="default: $PURGELINE_TOKEN, which is better: other users of this machine can see arguments",
    )
    group.add_argument("--json", action="store_true", help="print JSON, one document a line")
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help=f"seconds to wait for an answer (default {api.TIMEOUT_S:g})",
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
    parser.set_defaults(kind="url", soft=False, prefetch=False)
    if is_purge:
        kinds = parser.add_mutually_exclusive_group()
        for kind, text in (
            ("prefix", "targets are prefixes of URLs"),
            ("regex", "targets are regular expressions"),
            ("key", "targets are HOST/KEY, a surrogate key"),
            ("host", "targets are whole hosts"),
        ):
            kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=text)
        option("--soft", action="store_true", help="mark stale instead of dropping")
        option("--prefetch", action="store_true", help="fetch again after the purge")
    option("--wait", action="store_true", help="wait until it is settled; the exit code tells how")
    option("--layer", action="append", default=[], metavar="NAME", help="only this layer; may be repeated")
    option("--node", action="append", default=[], metavar="NAME", help="only this node; may be repeated")
    option("--id", type=_task_id, metavar="ID", help="the task's id: repeating a request under it is safe")
    option(
        "--due", type=_seconds, metavar="S", help="seconds after which what is undelivered counts as partial"
    )
    option("--callback", metavar="URL", help="is told when the task is settled")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    if not (re.fullmatch(r"\d{1,8}(\.\d+)?|\.\d+", text) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def _task_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no task id: 1-64 of A-Z a-z 0-9 . _ -")
    return text


# --- commands ----------------------------------------------------------------------------------


def _serve(args: argparse.Namespace, _out: render.Output) -> int:
    from engine.config import load  # noqa: PLC0415 - only this command needs the engine

    settings = load.load(args.config)
    if args.workers is None:
        from engine.process.single import run  # noqa: PLC0415 - after a mistake in the file not even then

        return run(settings)
    from engine import supervisor  # noqa: PLC0415 - as above

    return supervisor.main(
        ["--config", str(args.config.resolve()), "--workers", str(args.workers)],
        worker_command=[sys.executable, "-m", "engine", "worker"],
        version=__version__,
    )


def _work(args: argparse.Namespace, _out: render.Output) -> int:
    from engine.config import load  # noqa: PLC0415 - as above

    settings = load.load(args.config)
    from engine.process.worker import run  # noqa: PLC0415 - as above

    return run(settings)


def _hand_in(args: argparse.Namespace, out: render.Output) -> int:
    requests = list(_requests(args, _targets(args)))
    accepted: list[api.Document] = []
    ids: list[str] = []
    with _client(args, out) as client:
        try:
            code = _submit(client, out, requests, ids=ids, accepted=accepted)
        except KeyboardInterrupt:
            out.documents(accepted, render.ACCEPTED_COLUMNS)
            return out.error(f"interrupted; {_hint(ids)}", exit_code=INTERRUPTED)
        if args.wait and accepted:
            return max(code, _follow(client, out, [document["task_id"] for document in accepted]))
    out.documents(accepted, render.ACCEPTED_COLUMNS)
    return max([code, *map(_exit_code_of, accepted)])


def _submit(
    client: api.Client,
    out: render.Output,
    requests: list[api.Document],
    *,
    ids: list[str],
    accepted: list[api.Document],
) -> int:
    """Hand in *requests*, noting in *ids* what was sent and in *accepted* what was taken."""
    code = DONE
    for number, request in enumerate(requests):
        ids.append(request["id"])
        try:
            accepted.append(client.submit(api.encode(request)))
        except (api.EngineUnreachableError, api.ProblemError) as exc:
            text = f"task {number + 1} of {len(requests)}: {exc}" if len(requests) > 1 else str(exc)
            if isinstance(exc, api.EngineUnreachableError) and exc.sent:
                base = request["id"] if len(requests) == 1 else request["id"].removesuffix(f"-{number + 1}")
                text += f"; it may have been accepted: the same command with --id {base} is safe to repeat"
            goes_on = isinstance(exc, api.ProblemError) and exc.status in ABOUT_ONE_TASK
            left = sum(len(later["targets"]) for later in requests[number + 1 :])
            if left and not goes_on:
                text += f"; {left} more targets were not sent"
            code = max(code, _fail(out, exc, text))
            if not goes_on:
                break
    return code


def _targets(args: argparse.Namespace) -> list[str]:
    """Return the targets of command line, files and standard input; all before anything is sent."""
    targets = [target for target in args.targets if target != "-"]
    sources = [*args.file, *(["-"] if "-" in args.targets else [])]
    if not targets and not sources and sys.stdin is not None and not sys.stdin.isatty():
        sources.append("-")
    for source in sources:
        try:
            content = _standard_input() if source == "-" else Path(source).read_bytes()
            lines = content.decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"targets from {source!r} cannot be read: {exc}") from exc
        targets += [line for line in map(str.strip, lines) if line and line[0] != "#"]
    if not targets:
        raise UsageError("no target: name URLs, or pipe them in, or give --file F")
    return targets


def _standard_input() -> bytes:
    return b"" if sys.stdin is None else sys.stdin.buffer.read()  # None: closed by the shell, <&-


def _requests(args: argparse.Namespace, targets: list[str]) -> Iterator[api.Document]:
    """Yield the tasks to hand in; more than one when one may not have that many targets."""
    options = {
        "soft": args.soft,
        "prefetch": args.prefetch,
        "layers": args.layer,
        "nodes": args.node,
        "callback": args.callback,
        "due_s": args.due,
    }
    given = {key: value for key, value in options.items() if value}
    try:
        api.encode({**given, "targets": args.targets})
    except UnicodeEncodeError as exc:
        raise UsageError("an argument is not UTF-8") from exc
    parts = list(api.split(targets))
    task_id = args.id or api.new_id()
    for number, part in enumerate(parts, start=1):
        part_id = task_id if len(parts) == 1 else f"{task_id}-{number}"
        if len(part_id) > ID_MAX:
            raise UsageError(f"--id: {len(parts)} tasks are needed, and {part_id!r} is longer than {ID_MAX}")
        yield {"id": part_id, "action": args.command, "kind": args.kind, **given, "targets": part}


def _status(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        document = client.task(args.id)
    out.results([document])
    return _exit_code_of(document)


def _watch(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        return _follow(client, out, args.ids)


def _follow(client: api.Client, out: render.Output, ids: Sequence[str]) -> int:
    try:
        with out.progress() as show:
            documents = api.wait(client, ids, report=show)
    except KeyboardInterrupt:
        return out.error(f"interrupted; {_hint(ids)}", exit_code=INTERRUPTED)
    except api.EngineUnreachableError as exc:
        return _fail(out, exc, f"{exc}; {_hint(ids)}")
    out.results(documents)
    return max(map(_exit_code_of, documents))


def _cancel(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        out.results([client.cancel(args.id)])
    return DONE


def _tasks(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        out.listing(client.tasks(state=args.state, limit=args.limit), "tasks", render.TASK_COLUMNS)
    return DONE


def _nodes(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        out.listing(client.nodes(), "nodes", render.NODE_COLUMNS)
    return DONE


def _cluster(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        document = client.cluster()
    if document["mode"] == "embedded":
        out.notice("this engine has a store of its own (store.url is sqlite:); there is no cluster")
    out.listing(document, "engines", render.ENGINE_COLUMNS)
    return DONE


def _stats(args: argparse.Namespace, out: render.Output) -> int:
    with _client(args, out) as client:
        out.mapping(client.stats())
    return DONE


def _version(args: argparse.Namespace, out: render.Output) -> int:
    own = {"version": __version__, "revision": __revision__, "built_at": __built_at__}
    args.timeout = args.timeout or VERSION_TIMEOUT_S
    with _client(args, out, busy_attempts=1) as client:
        try:
            engine: object = client.version()
        except (api.EngineUnreachableError, api.ProblemError) as exc:
            engine = None if out.as_json else str(exc).removeprefix("engine ")
    out.mapping({**own, "engine": engine})
    return DONE


def _check_config(args: argparse.Namespace, out: render.Output) -> int:
    from engine.config import load  # noqa: PLC0415 - only this command needs msgspec

    settings = load.load(args.config)
    layers = [layer.name for layer in settings.layer] or ["edge"]
    nodes = [
        {
            "name": node.name,
            "layer": node.layer,
            "driver": node.driver,
            "url": node.url,
            "parents": node.parents,
        }
        for node in sorted(settings.node, key=lambda node: layers.index(node.layer))
    ]
    facts = {"listen": settings.engine.listen, "store": settings.store.url, "layers": layers}
    out.configuration({**facts, "nodes": nodes})
    return DONE


def _migrate(args: argparse.Namespace, out: render.Output) -> int:
    from engine.cli import migrate, sides  # noqa: PLC0415 - only this command needs the stores
    from engine.config import load  # noqa: PLC0415 - as above

    settings = load.load(args.config)
    folder = Path(settings.engine.data_dir)
    source = sides.open_side(args.source, settings, folder, is_target=False)
    if args.workers and not args.target.startswith("sqlite:"):
        raise UsageError("--workers: only files are of a number of workers; --to takes sqlite:DIR then")
    target = sides.open_side(args.target, settings, folder, is_target=True, workers=args.workers)
    had, has = migrate.migrate(source, target, folder, say=out.notice)
    out.mapping({"from": had.shown(), "to": has.shown()})
    if different := had.differences(has):
        text = "; ".join(different)
        return out.error(f"not the same on both sides: {text}; run it again to go on", exit_code=FAILED)
    return DONE


def _client(args: argparse.Namespace, out: render.Output, *, busy_attempts: int = 4) -> api.Client:
    try:
        return api.Client(
            args.engine or os.environ.get("PURGELINE_URL") or api.URL_DEFAULT,
            token=os.environ.get("PURGELINE_TOKEN", "") if args.token is None else args.token,
            timeout_s=args.timeout or api.TIMEOUT_S,
            busy_attempts=busy_attempts,
            notice=out.notice,
        )
    except ValueError as exc:
        raise UsageError(f"--engine or --token: {exc}") from exc


def _hint(ids: Sequence[str]) -> str:
    shown = " ".join(ids[:IDS_SHOWN])
    more = f" (and {len(ids) - IDS_SHOWN} more: purgeline tasks)" if len(ids) > IDS_SHOWN else ""
    return f"what was accepted goes on in the engine; watch it: purgeline watch {shown}{more}"


def _exit_code_of(document: api.Document) -> int:
    return FAILED if document["state"] in {"failed", "partial", "cancelled"} else DONE


def _fail(out: render.Output, exc: Exception, text: str = "") -> int:
    """Say what went wrong in one line, and return its exit code."""
    match exc:
        case api.EngineUnreachableError():
            return out.error(text or str(exc), exit_code=UNREACHABLE)
        case api.ProblemError(status=status):
            is_theirs = 400 <= status < 500  # noqa: PLR2004 - HTTP's client errors
            code = UNREACHABLE if status in AWAY else USAGE if is_theirs else FAILED
            return out.error(text or str(exc), exit_code=code, status=status)
        case UsageError() | ConfigError():
            return out.error(str(exc), exit_code=USAGE)
        case EngineError() | OSError():
            return out.error(str(exc), exit_code=FAILED)
        case _ if sys.flags.dev_mode:
            raise exc
        case _:
            return out.error(f"internal error: {type(exc).__name__}: {exc}", exit_code=FAILED)
