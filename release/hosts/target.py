"""What a task on hosts was asked for, and the hosts it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from release.errors import SettingsError
from release.hosts.journal import Journal
from release.hosts.remote import Fleet
from release.inventory import LOCAL, hosts_of

if TYPE_CHECKING:
    from release.hosts.remote import OnEvent
    from release.settings import Settings


PORT_MAX: Final = 65535


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a task; empty ones mean what the settings say."""

    hosts: list[str] = []  #: names and groups
    settings: str = ""  #: file of the settings
    inventory: str = ""
    root: str = ""
    release: str = ""
    channel: str = ""
    repository: str = ""
    listen: str = ""
    batches: str = ""
    failures_max: int = -1  #: below 0: as the settings say
    workers: int = 0
    shadow: str = ""  #: recording by which a new version is compared with the one that serves
    with_salt: bool = True
    is_dry: bool = False
    is_sure: bool = False  #: do not ask

    @property
    def is_local(self) -> bool:
        """Whether the task means this machine, without SSH."""
        return LOCAL in self.hosts


def apply(wanted: Wanted, settings: Settings) -> Settings:
    """Return the settings with the options of the task over them.

    Raises:
        SettingsError: an option cannot be used.
    """
    if wanted.is_local and not wanted.root:
        raise SettingsError(
            "--host local needs --root DIR, a folder for the installation, such as ~/purgeline"
        )
    root = Path(wanted.root or settings.root)
    if wanted.is_local:
        root = root.expanduser().absolute()
    if not root.is_absolute() or ".." in root.parts:
        raise SettingsError(f"root: {str(root)!r} is no absolute path on the hosts, such as /srv/purgeline")
    host, _, port = wanted.listen.rpartition(":")
    if wanted.listen and not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= PORT_MAX):
        raise SettingsError(f"--listen {wanted.listen!r} is not HOST:PORT, such as 127.0.0.1:9181")
    return msgspec.structs.replace(
        settings,
        root=str(root),
        channel=wanted.channel or settings.channel,
        batches=wanted.batches or settings.batches,
        failures_max=settings.failures_max if wanted.failures_max < 0 else wanted.failures_max,
        workers=wanted.workers or settings.workers,
    )


def open_fleet(wanted: Wanted, settings: Settings, on_event: OnEvent) -> Fleet:
    """Return the hosts that are meant; nothing is connected yet.

    Args:
        wanted: options of the task.
        settings: of the project, with the options over them.
        on_event: takes progress lines of the hosts, from their threads.

    Raises:
        SettingsError: see `release.inventory.hosts_of`.
    """
    hosts = hosts_of(settings, wanted.hosts, inventory=wanted.inventory)
    return Fleet(hosts, settings, root=settings.root, on_event=on_event)


def journal_of(settings: Settings) -> Journal:
    """Return the journal of this machine."""
    return Journal(Path(settings.state_dir).expanduser())
