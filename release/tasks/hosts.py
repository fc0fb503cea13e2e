"""Tasks that work on hosts: parse, call. What they do and print is in `release`.

Exit codes: 0 all good, 1 something failed (a deploy is rolled back), 2 usage, 3 hosts that cannot be reached
or another reason not to begin, 4 locked by somebody else, 130 interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context  # noqa: TC002  # Invoke looks at the first parameter
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from collections.abc import Callable

    from release.hosts.target import Wanted
    from release.settings import Settings
    from release.show.screen import Screen

    Work = Callable[[Wanted, Settings, Screen], int]

HOSTS = {
    "host": "hosts or groups, separated by commas, may be repeated; 'local' is this machine; default: all",
    "inventory": "file of the hosts; default: the settings'",
    "root": "folder of the installation on the hosts; default: the settings'; needed for 'local'",
    "json": "print one JSON document",
}
SOURCE = {
    "release": "version; left out: the one that the channel names, or for 'local' this tree",
    "channel": "canary or stable; default: the settings'",
    "repository": "folder, ssh://… or https://…; default: the settings'",
}
DRY = {"dry_run": "print what would be done, change nothing"}
YES = {"yes": "do not ask at a terminal"}
BATCHES = {
    "batches": "sizes of the batches, such as 1,25%,100%; the first is the canary",
    "max_failures": "hosts that may fail, the canary aside, before it stops and rolls back",
    "workers": "processes of the engine on each host",
}
LISTEN = {"listen": "HOST:PORT for an engine that is started by this, on 'local'"}


def _run(name: str, work: Work, host: list[str] | None, *, json: bool, **options: Any) -> None:
    """Call *work* and leave with its exit code."""
    from release import settings as settings_file
    from release.errors import ReleaseError
    from release.exits import INTERRUPTED, code_of
    from release.hosts.target import Wanted
    from release.show.screen import Screen

    names = [part for entry in host or [] for part in entry.split(",") if part]
    screen = Screen(is_json=json)
    try:
        code = work(Wanted(hosts=names, **options), settings_file.load(), screen)
    except ReleaseError as exc:
        if json:
            screen.result({"action": name, "error": str(exc), "exit_code": code_of(exc)})
        raise Exit(f"{name}: {exc}", code=code_of(exc)) from exc
    except KeyboardInterrupt:
        raise Exit(f"{name}: interrupted", code=INTERRUPTED) from None
    if code:
        raise Exit(code=code)  # it has said why


def _number(option: str, text: str, *, least: int = 0, default: int = 0) -> int:
    """Return the number an option gives. Invoke itself would end with a traceback where it is none."""
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise Exit(f"{option} takes a number from {least} on, not {text!r}", code=2)
    return int(text)


def _hosts_task(**help_texts: str) -> Callable[[Callable[..., None]], Any]:
    made: Callable[[Callable[..., None]], Any] = task(
        positional=[],
        iterable=["host"],
        auto_shortflags=False,  # -h is --help
        help={**HOSTS, **help_texts},
    )
    return made


@_hosts_task(**SOURCE, **DRY, **BATCHES, **LISTEN, **YES, no_salt="leave the release's states out")
def deploy(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    release: str = "",
    channel: str = "",
    repository: str = "",
    batches: str = "",
    max_failures: str = "",
    workers: str = "",
    listen: str = "",
    no_salt: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Bring a version to hosts in batches, a canary first, and take it back when it is bad."""
    from release.rollout.deploy import deploy as work

    _run(
        "deploy",
        work,
        host,
        json=json,
        inventory=inventory,
        root=root,
        release=release,
        channel=channel,
        repository=repository,
        batches=batches,
        failures_max=_number("--max-failures", max_failures, default=-1),
        workers=_number("--workers", workers, least=1),
        listen=listen,
        with_salt=not no_salt,
        is_dry=dry_run,
        is_sure=yes,
    )


@_hosts_task(**SOURCE, **BATCHES, no_salt="leave the release's states out")
def plan(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    release: str = "",
    channel: str = "",
    repository: str = "",
    batches: str = "",
    max_failures: str = "",
    workers: str = "",
    no_salt: bool = False,
    json: bool = False,
) -> None:
    """Print what deploy would do now, and what stands against it. Changes nothing."""
    from release.rollout.deploy import deploy as work

    _run(
        "plan",
        work,
        host,
        json=json,
        inventory=inventory,
        root=root,
        release=release,
        channel=channel,
        repository=repository,
        batches=batches,
        failures_max=_number("--max-failures", max_failures, default=-1),
        workers=_number("--workers", workers, least=1),
        with_salt=not no_salt,
        is_dry=True,
    )


@_hosts_task(**SOURCE, **DRY, **YES)
def unpack(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    release: str = "",
    channel: str = "",
    repository: str = "",
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Bring a version to hosts and unpack it there; what serves stays as it is."""
    from functools import partial

    from release.rollout.deploy import deploy as work

    _run(
        "unpack",
        partial(work, is_unpack=True),
        host,
        json=json,
        inventory=inventory,
        root=root,
        release=release,
        channel=channel,
        repository=repository,
        is_dry=dry_run,
        is_sure=yes,
    )


@_hosts_task(
    **DRY,
    **BATCHES,
    **LISTEN,
    **YES,
    release="unpacked version; left out: the one that runs, for its configuration",
)
def reload(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    release: str = "",
    batches: str = "",
    max_failures: str = "",
    workers: str = "",
    listen: str = "",
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Switch hosts to an unpacked version without a refused request, or let them read their configuration."""
    from release.rollout.rollback import reload as work

    _run(
        "reload",
        work,
        host,
        json=json,
        inventory=inventory,
        root=root,
        release=release,
        batches=batches,
        failures_max=_number("--max-failures", max_failures, default=-1),
        workers=_number("--workers", workers, least=1),
        listen=listen,
        is_dry=dry_run,
        is_sure=yes,
    )


@_hosts_task(
    **DRY, **YES, to="version; left out: the one before", batches="as in deploy; default: all at once"
)
def rollback(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    to: str = "",
    batches: str = "",
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Bring hosts back to the version before; needs no repository."""
    from release.rollout.rollback import rollback as work

    _run(
        "rollback",
        work,
        host,
        json=json,
        inventory=inventory,
        root=root,
        release=to,
        batches=batches,
        is_dry=dry_run,
        is_sure=yes,
    )


@_hosts_task()
def status(
    c: Context, host: list[str] | None = None, inventory: str = "", root: str = "", json: bool = False
) -> None:
    """Show what every host serves, its health, and where hosts drift apart."""
    from release.rollout.overview import status as work

    _run("status", work, host, json=json, inventory=inventory, root=root)


@_hosts_task(limit="entries of each host, default 20", here="what this machine did, without asking the hosts")
def history(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    limit: str = "",
    here: bool = False,
    json: bool = False,
) -> None:
    """Show who did what when."""
    from functools import partial

    from release.rollout.overview import history as work

    _run(
        "history",
        partial(work, limit=_number("--limit", limit, least=1, default=20), is_here=here),
        host,
        json=json,
        inventory=inventory,
        root=root,
    )


@_hosts_task(repository=SOURCE["repository"])
def version(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    repository: str = "",
    json: bool = False,
) -> None:
    """Show which version is in this tree, in the repository's channels and on the hosts."""
    from release.rollout.versions import versions as work

    _run("version", work, host, json=json, inventory=inventory, root=root, repository=repository)


@_hosts_task(why="what for; who is refused reads it")
def lock(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    why: str = "",
    json: bool = False,
) -> None:
    """Keep everybody from deploying to hosts, until unlock."""
    from functools import partial

    from release.rollout.operations import lock as work

    _run("lock", partial(work, why=why), host, json=json, inventory=inventory, root=root)


@_hosts_task(force="whosoever lock it is; look at status first")
def unlock(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    force: bool = False,
    json: bool = False,
) -> None:
    """Release the locks that this machine set, or that a killed deploy of it left."""
    from functools import partial

    from release.rollout.operations import unlock as work

    _run("unlock", partial(work, is_forced=force), host, json=json, inventory=inventory, root=root)


@_hosts_task(**DRY, keep="good releases that stay; default: the settings'")
def prune(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    keep: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Remove old releases from hosts; never the current, the previous or a running one."""
    from functools import partial

    from release.rollout.operations import prune as work

    _run(
        "prune",
        partial(work, keep=_number("--keep", keep, least=1)),
        host,
        json=json,
        inventory=inventory,
        root=root,
        is_dry=dry_run,
    )


@_hosts_task(release="unpacked version; left out: the current one")
def verify(
    c: Context,
    host: list[str] | None = None,
    inventory: str = "",
    root: str = "",
    release: str = "",
    json: bool = False,
) -> None:
    """Compare every file of a release on the hosts with what was unpacked."""
    from release.rollout.operations import verify as work

    _run("verify", work, host, json=json, inventory=inventory, root=root, release=release)


@_hosts_task()
def stop(
    c: Context, host: list[str] | None = None, inventory: str = "", root: str = "", json: bool = False
) -> None:
    """Stop the engine where it was started by reload, drained: `--host local --root DIR`."""
    from release.rollout.operations import stop as work

    _run("stop", work, host, json=json, inventory=inventory, root=root)
