"""Tasks that work on hosts: parse, call. What they do and print is in `release.rollout`.

Invoke reads a task's options off a signature. Here the options are a table, `OPTIONS`, and `_hosts_task`
makes the signature and the help of each task from it: a task names its options, and its function returns
what does the work, imported only when the task runs.

Exit codes: 0 all good, 1 something failed (a deploy is rolled back), 2 usage, 3 hosts that cannot be reached
or another reason not to begin, 4 locked by somebody else, 130 interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final

from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.context import Context

    from release.hosts.target import Wanted
    from release.settings import Settings
    from release.show.screen import Screen

    Work = Callable[[Wanted, Settings, Screen], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a task, text unless `is_flag` or `least` says otherwise."""

    help: str
    field: str = ""  #: of `Wanted` that it gives
    keyword: str = ""  #: of the work that it gives, where `Wanted` has no such field
    is_flag: bool = False
    is_inverted: bool = False  #: the field says the opposite
    least: int | None = None  #: it takes a number from this on
    default: int = 0  #: of a number


SETTINGS_HELP: Final = "file of the settings; default: release.toml here, or beside the project"
#: The options that several tasks have, by name. `host` and ``--json`` are on every task.
OPTIONS: Final = {
    "settings": Option(help=SETTINGS_HELP, field="settings"),
    "inventory": Option(help="file of the hosts; default: the settings'", field="inventory"),
    "root": Option(
        help="folder of the installation on the hosts; default: the settings'; needed for 'local'",
        field="root",
    ),
    "release": Option(
        help="version; left out: the one that the channel names, or for 'local' this tree", field="release"
    ),
    "channel": Option(help="canary or stable; default: the settings'", field="channel"),
    "repository": Option(help="folder, ssh://… or https://…; default: the settings'", field="repository"),
    "batches": Option(
        help="sizes of the batches, such as 1,25%,100%; the first is the canary", field="batches"
    ),
    "max_failures": Option(
        help="hosts that may fail, the canary aside, before it stops and rolls back",
        field="failures_max",
        least=0,
        default=-1,
    ),
    "workers": Option(help="processes of the engine on each host", field="workers", least=1),
    "listen": Option(help="HOST:PORT for an engine that is started by this, on 'local'", field="listen"),
    "no_salt": Option(
        help="leave the release's states out", field="with_salt", is_flag=True, is_inverted=True
    ),
    "shadow": Option(
        help="recording (purgeline record): the canary's new version plays it beside the one that serves; "
        "it goes no further when they differ",
        field="shadow",
    ),
    "dry_run": Option(help="print what would be done, change nothing", field="is_dry", is_flag=True),
    "yes": Option(help="do not ask at a terminal", field="is_sure", is_flag=True),
}
_HOST: Final = "hosts or groups, separated by commas, may be repeated; 'local' is this machine; default: all"
_SOURCE: Final = ("release", "channel", "repository")
_BATCHES: Final = ("batches", "max_failures", "workers")


def _hosts_task(*names: str, **own: Option) -> Callable[[Callable[[], Callable[..., int]]], Any]:
    """Make a task of a function that returns what does the work.

    Args:
        names: options of `OPTIONS`, beside ``settings``, ``inventory`` and ``root``, which every task has.
        own: options that only this task has, or that mean something else here.
    """
    options = {name: OPTIONS[name] for name in ("settings", "inventory", "root", *names)} | own
    defaults = {"host": None} | {name: False if option.is_flag else "" for name, option in options.items()}
    parameters = [Parameter("c", Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in (defaults | {"json": False}).items()
    ]

    def make(work_of: Callable[[], Callable[..., int]]) -> Any:
        def body(_c: Context, *, host: list[str] | None = None, json: bool = False, **given: Any) -> None:
            values = {name: _value(name, option, given[name]) for name, option in options.items()}
            wanted = {option.field: values[name] for name, option in options.items() if option.field}
            more = {option.keyword: values[name] for name, option in options.items() if option.keyword}
            _run(work_of.__name__, partial(work_of(), **more), host, json=json, options=wanted)

        body.__name__, body.__doc__ = work_of.__name__, work_of.__doc__
        body.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what Invoke reads
        texts = {"host": _HOST, "json": "print one JSON document"}
        return task(
            positional=[],
            iterable=["host"],
            auto_shortflags=False,  # -h is --help
            help=texts | {name: option.help for name, option in options.items()},
        )(body)

    return make


def _value(name: str, option: Option, given: Any) -> Any:
    """Return what an option means. Invoke itself would end with a traceback where a number is none."""
    if option.is_flag:
        return given is not option.is_inverted
    if option.least is None:
        return given
    if not given:
        return option.default
    if not given.isdecimal() or int(given) < option.least:
        flag = f"--{name.replace('_', '-')}"
        raise Exit(f"{flag} takes a number from {option.least} on, not {given!r}", code=2)
    return int(given)


def _run(name: str, work: Work, host: list[str] | None, *, json: bool, options: dict[str, Any]) -> None:
    """Call *work* and leave with its exit code."""
    from release.agent.redact import redact
    from release.errors import ReleaseError
    from release.hosts.target import Wanted
    from release.rollout.exits import INTERRUPTED, code_of
    from release.settings import load_settings
    from release.show import steady
    from release.show.screen import Screen

    steady.install()
    names = [part for entry in host or [] for part in entry.split(",") if part]
    screen = Screen(is_json=json)
    try:
        wanted = Wanted(hosts=names, **options)
        code = work(wanted, load_settings(wanted.settings), screen)
    except ReleaseError as exc:
        if json:
            screen.result({"action": name, "error": str(exc), "exit_code": code_of(exc)})
        raise Exit(redact(f"{name}: {exc}"), code=code_of(exc)) from exc
    except KeyboardInterrupt:
        raise Exit(f"{name}: interrupted", code=INTERRUPTED) from None
    if code:
        raise Exit(code=code)  # it has said why


@_hosts_task(*_SOURCE, *_BATCHES, "dry_run", "listen", "yes", "no_salt", "shadow")
def deploy() -> Work:
    """Bring a version to hosts in batches, a canary first, and take it back when it is bad."""
    from release.rollout.deploy import deploy

    return deploy


@_hosts_task(*_SOURCE, *_BATCHES, "no_salt", "shadow")
def plan() -> Work:
    """Print what deploy would do now, and what stands against it. Changes nothing."""
    from release.rollout.deploy import show_deploy

    return show_deploy


@_hosts_task(*_SOURCE, "dry_run", "yes")
def unpack() -> Work:
    """Bring a version to hosts and unpack it there; what serves stays as it is."""
    from release.rollout.deploy import deploy

    return partial(deploy, is_unpack=True)


@_hosts_task(
    *_BATCHES,
    "dry_run",
    "listen",
    "yes",
    release=Option(
        help="unpacked version; left out: the one that runs, for its configuration", field="release"
    ),
)
def reload() -> Work:
    """Switch hosts to an unpacked version without a refused request, or let them read their configuration."""
    from release.rollout.rollback import reload

    return reload


@_hosts_task(
    "dry_run",
    "yes",
    to=Option(help="version; left out: the one before", field="release"),
    batches=Option(help="as in deploy; default: all at once", field="batches"),
)
def rollback() -> Work:
    """Bring hosts back to the version before; needs no repository."""
    from release.rollout.rollback import rollback

    return rollback


@_hosts_task()
def status() -> Work:
    """Show what every host serves, its health, and where hosts drift apart."""
    from release.rollout.overview import status

    return status


@_hosts_task()
def doctor() -> Work:
    """Look at every host: limits, disk, clock, Redis, caches; and say what mends what is not well."""
    from release.rollout.doctor import doctor

    return doctor


@_hosts_task(
    limit=Option(help="entries of each host, default 20", keyword="limit", least=1, default=20),
    here=Option(help="what this machine did, without asking the hosts", keyword="is_here", is_flag=True),
)
def history() -> Callable[..., int]:
    """Show who did what when."""
    from release.rollout.overview import history

    return history


@_hosts_task("repository")
def version() -> Work:
    """Show which version is in this tree, in the repository's channels and on the hosts."""
    from release.rollout.versions import versions

    return versions


@_hosts_task(why=Option(help="what for; who is refused reads it", keyword="why"))
def lock() -> Callable[..., int]:
    """Keep everybody from deploying to hosts, until unlock."""
    from release.rollout.maintenance import lock

    return lock


@_hosts_task(
    force=Option(help="whosoever lock it is; look at status first", keyword="is_forced", is_flag=True),
    why=Option(help="what for; --force needs it, and the histories keep it", keyword="why"),
)
def unlock() -> Callable[..., int]:
    """Release the locks that this machine set, or that a killed deploy of it left."""
    from release.rollout.maintenance import unlock

    return unlock


@_hosts_task(
    "dry_run", keep=Option(help="good releases that stay; default: the settings'", keyword="keep", least=1)
)
def prune() -> Callable[..., int]:
    """Remove old releases from hosts; never the current, the previous or a running one."""
    from release.rollout.maintenance import prune

    return prune


@_hosts_task(release=Option(help="unpacked version; left out: the current one", field="release"))
def verify() -> Work:
    """Compare every file of a release on the hosts with what was unpacked."""
    from release.rollout.maintenance import verify

    return verify


@_hosts_task()
def stop() -> Work:
    """Stop the engine where it was started by reload, drained: `--host local --root DIR`."""
    from release.rollout.maintenance import stop

    return stop
