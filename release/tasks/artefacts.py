"""``pack`` and ``repo``: from a commit to an artefact, from an artefact to a repository."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from invoke.context import Context  # noqa: TC002  # Invoke looks at the first parameter
from invoke.exceptions import Exit
from invoke.tasks import task

from release.calling import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from release.repository.index import Index
    from release.repository.repository import Change, Repository
    from release.settings import Settings


@task(
    positional=[],
    help={
        "release": "version, such as 1.4.2; left out: the tag on the commit, or 0.dev… without a tag",
        "allow_dirty": "take files that are not committed too; for this machine only, the version says so",
        "self_test": "install the artefact without network and ask its version (--no-self-test: do not)",
        "pure": "compile nothing: the hot modules run interpreted",
        "out": "folder for the artefact; default: dist/ of the checkout",
        "settings": "file of the settings; default: release.toml here, or beside the project",
        "json": "print JSON",
    },
)
def pack(
    c: Context,
    release: str = "",
    allow_dirty: bool = False,
    self_test: bool = True,
    pure: bool = False,
    out: str = "",
    settings: str = "",
    json: bool = False,
) -> None:
    """Build the artefact of this commit, and try it, before it gets its name under dist/."""
    from pathlib import Path

    from rich.console import Console

    from release.build import packing
    from release.settings import load_settings

    began = time.monotonic()
    console = Console(stderr=json)
    with _errors("pack"), console.status("pack") as status:
        chosen = load_settings(settings)
        built = packing.build(
            release=release or None,
            out=Path(out) if out else _dist(chosen),
            allow_dirty=allow_dirty,
            settings=chosen,
            self_test=self_test,
            pure=pure,
            say=lambda step: status.update(f"pack: {step}"),
        )
    if json:
        _print_json(built)
        return
    table = _table("artefact", "")
    here = Path.cwd()
    path = built.path.relative_to(here) if built.path.is_relative_to(here) else built.path
    table.add_row("file", str(path))
    table.add_row("version", built.version)
    table.add_row("commit", f"{built.revision}, {built.built_at}")
    table.add_row("for", f"{built.python} on {built.platform}")
    table.add_row(
        "hot modules", f"compiled: {built.compiler}" if built.compiler else f"interpreted: {built.why_pure}"
    )
    table.add_row("size", f"{built.size / 1e6:.1f} MB")
    table.add_row("SHA-256", built.sha256)
    table.add_row(
        "self-test", "installed without network, version is right" if built.is_tested else "left out"
    )
    console.print(table)
    if built.lacks:
        console.print(f"[yellow]Hosts cannot take it:[/] this commit has no {' and no '.join(built.lacks)}.")
    console.print(f"Packed in {time.monotonic() - began:.1f} s.", highlight=False)


@task(
    positional=[],
    help={
        "channel": "canary or stable: what it names from now on; publishing without one takes canary",
        "release": "version to publish, or to let the channel name; left out: the version of this commit",
        "yank": "version that nobody is to take any more, with --reason",
        "reason": "why, for --yank",
        "refresh": "only sign the index anew, before it expires",
        "new_key": "make a key pair to sign with, and say what to do with it",
        "list_": "show what is there",
        "dry_run": "say what would be done, write nothing",
        "repository": "folder, ssh://[user@]host/path, or http(s)://… to --list; default: the settings'",
        "settings": "file of the settings; default: release.toml here, or beside the project",
        "json": "print JSON",
    },
)
def repo(
    c: Context,
    channel: str = "",
    release: str = "",
    yank: str = "",
    reason: str = "",
    refresh: bool = False,
    new_key: bool = False,
    list_: bool = False,
    dry_run: bool = False,
    repository: str = "",
    settings: str = "",
    json: bool = False,
) -> None:
    """Publish what was packed, or look after the repository: channels, yanking, keys, expiry."""
    from release.repository.repository import open_repository
    from release.settings import load_settings

    with _errors("repo"):
        _one_of(yank=bool(yank), refresh=refresh, new_key=new_key, list=list_)
        chosen = load_settings(settings)
        if new_key:
            _new_key(chosen, dry_run=dry_run, json=json)
            return
        with open_repository(repository, chosen) as opened:
            if list_:
                _show_index(opened.index(), opened.url, json=json)
            elif yank:
                _show_change(opened, opened.yank(_normal(yank), reason, dry_run=dry_run), dry_run, json)
            elif refresh:
                _show_change(opened, opened.refresh(dry_run=dry_run), dry_run, json)
            else:
                _publish(opened, chosen, channel or "canary", release, dry_run=dry_run, json=json)


def _publish(
    repository: Repository, settings: Settings, channel: str, release: str, *, dry_run: bool, json: bool
) -> None:
    """Publish every packed build of the version; one that only the repository has gets the channel."""
    from release.build import version
    from release.errors import ArtefactError, VersionError
    from release.repository import index
    from release.settings import source_of

    index.check_channel(channel)
    try:
        wanted = _normal(release) if release else version.determine(source_of(settings)).version
    except VersionError as exc:
        raise exc if release else VersionError(f"{exc}; or say which packed version with --release") from exc
    dist = _dist(settings)
    paths = sorted(dist.glob(f"purgeline-{wanted}-cp*-linux_*.tar.gz"))
    for path in paths:
        _show_change(repository, repository.publish(path, channel=channel, dry_run=dry_run), dry_run, json)
    if paths:
        return
    if not release:
        packed = ", ".join(sorted(path.name for path in dist.glob("purgeline-*.tar.gz"))) or "there is none"
        raise ArtefactError(
            f"{wanted} is not packed: run {call('pack')}, or take another with --release V ({packed})"
        )
    _show_change(repository, repository.promote(wanted, channel, dry_run=dry_run), dry_run, json)


def _new_key(settings: Settings, *, dry_run: bool, json: bool) -> None:
    from pathlib import Path

    from rich.console import Console

    from release.repository import signing

    key_file = Path(settings.key_file).expanduser()
    is_rotation = key_file.exists()
    path = key_file.with_name(f"{key_file.name}.next") if is_rotation else key_file
    if dry_run:
        print(f"would write a new private key to {path}")
        return
    public = signing.new_key(path)
    old = [signing.public_text(key) for key in signing.load_keys(key_file)] if is_rotation else []
    trusted = [*(settings.trusted_keys or old), public]
    if json:
        _print_json({"key_file": str(path), "public_key": public, "trusted_keys": trusted})
        return
    listed = ", ".join(f'"{key}"' for key in trusted)
    lines = [
        f"Private key: {path} (only you may read it; keep a copy in a safe place)",
        f"Public key:  {public}",
        "",
        "In release.toml, on every machine that deploys:",
        f"  trusted_keys = [{listed}]",
    ]
    if is_rotation:
        lines += [
            "",
            "Then, to replace the old key:",
            "  1. wait until every machine that deploys has both keys in trusted_keys",
            f"  2. mv {path} {key_file} && {call('repo --refresh')}",
            "  3. take the old key out of trusted_keys",
        ]
    Console(soft_wrap=True, highlight=False, markup=False).print("\n".join(lines))


def _show_index(index: Index, url: str, *, json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    if json:
        _print_json(index)
        return
    channels = {version: name for name, version in index.channels.items()}
    channels |= {
        version: " ".join(name for name, named in index.channels.items() if named == version)
        for version in channels
    }
    table = _table("version", "for", "published", "size", "SHA-256", "channel", "")
    for entry in reversed(index.artefacts):
        table.add_row(
            escape(entry.version),
            f"{entry.python} {entry.platform}",
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.published_at)),
            f"{entry.size / 1e6:.1f} MB",
            f"{entry.sha256[:12]}…",
            f"[green]{channels.get(entry.version, '')}[/]",
            f"[red]yanked: {escape(entry.yanked)}[/]" if entry.yanked else "",
        )
    console = Console(highlight=False)
    console.print(table)
    expires = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(index.expires_at))
    console.print(f"{escape(url)}, serial {index.serial}, good until {expires}", soft_wrap=True)


def _show_change(repository: Repository, change: Change, dry_run: bool, json: bool) -> None:
    from rich.console import Console

    if json:
        _print_json(
            {
                "repository": repository.url,
                "dry_run": dry_run,
                "serial": change.index.serial,
                "done": change.notes,
                "channels": change.index.channels,
            }
        )
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if not change.is_change:
        console.print(f"{repository.url}: nothing to do, it is all there (serial {change.index.serial})")
        return
    console.print(f"{repository.url}: {'would do' if dry_run else f'done, serial {change.index.serial}'}:")
    for note in change.notes:
        console.print(f"  {note}")


def _one_of(**given: bool) -> None:
    from release.errors import SettingsError

    names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise SettingsError(f"{' and '.join(names)} are different things; take one at a time")


def _normal(text: str) -> str:
    from release.build import version

    return version.normal(text)


def _dist(settings: Settings) -> Path:
    from release.settings import source_of

    return source_of(settings) / "dist"


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_json(what: object) -> None:
    import msgspec

    from release.agent.redact import redact

    print(msgspec.json.encode(redact(msgspec.to_builtins(what, enc_hook=str))).decode())


@contextmanager
def _errors(name: str) -> Iterator[None]:
    from release.agent.redact import redact
    from release.errors import ReleaseError

    try:
        yield
    except ReleaseError as exc:
        raise Exit(redact(f"{name}: {exc}"), code=1) from exc
