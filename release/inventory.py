"""The inventory: which hosts there are, as a TOML file of its own or in ``release.toml``.

::

    [[hosts]]
    name = "cdn-1"
    address = "192.0.2.11"
    user = "deploy"
    groups = ["canary", "eu"]

The host ``local`` is this machine, reached without SSH; it needs no file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from release.errors import SettingsError
from release.settings import convert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.settings import Settings

LOCAL: Final = "local"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PORT_MAX: Final = 65535


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host."""

    name: str
    address: str = ""  #: name or IP address to connect to; default: `name`
    port: int = 22
    user: str = ""  #: empty: what the SSH configuration says, else the caller
    groups: list[str] = []
    python: str = "python3"  #: interpreter on the host that makes the engine's environment

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, reached without SSH."""
        return self.name == LOCAL


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hosts: list[dict[str, Any]] = []


def load_inventory(path: Path) -> list[Host]:
    """Read, check and return the hosts of *path*, in the order of the file.

    Raises:
        SettingsError: the file cannot be read, or something in it is wrong; names the host and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such inventory; write [[hosts]] tables with name and address there or into "
            "release.toml, name another with --inventory, or use --host local"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {exc}") from exc
    try:
        return parse(table)
    except SettingsError as exc:
        raise SettingsError(f"{path}: {exc}") from exc


def parse(table: dict[str, Any]) -> list[Host]:
    """Turn the decoded file into hosts.

    Raises:
        SettingsError: see `load_inventory`.
    """
    entries = convert(table, _File, "inventory").hosts
    hosts = [
        convert(entry, Host, f"hosts[{number}] ({entry.get('name', 'no name')})")
        for number, entry in enumerate(entries)
    ]
    seen: set[str] = set()
    for host in hosts:
        if not _NAME.fullmatch(host.name) or host.name == LOCAL:
            raise SettingsError(f"host name {host.name!r}: use 1-64 of A-Z a-z 0-9 . _ -, and not 'local'")
        if host.address.startswith("-") or host.user.startswith("-"):
            raise SettingsError(f"host {host.name!r}: address and user do not begin with '-'")
        if not 1 <= host.port <= _PORT_MAX:
            raise SettingsError(f"host {host.name!r}: port takes 1-{_PORT_MAX}, not {host.port}")
        if host.name in seen:
            raise SettingsError(f"host {host.name!r} is there twice; names are unique")
        seen.add(host.name)
    return hosts


def hosts_of(
    settings: Settings, wanted: Sequence[str], *, inventory: str = "", folder: Path | None = None
) -> list[Host]:
    """Return the hosts that are meant.

    Args:
        settings: have hosts, or name an inventory.
        wanted: names and groups; all for none.
        inventory: file that is asked for instead.
        folder: that a relative *inventory* is meant from; the current one when None.

    Raises:
        SettingsError: no such host, or the inventory cannot be used.
    """
    if LOCAL in wanted:
        return select_hosts([], wanted)
    if settings.hosts and not inventory:
        return select_hosts(parse({"hosts": settings.hosts}), wanted)
    path = (folder or Path.cwd()) / Path(inventory or settings.inventory).expanduser()
    return select_hosts(load_inventory(path), wanted)


def select_hosts(hosts: Sequence[Host], wanted: Sequence[str]) -> list[Host]:
    """Return the hosts named in *wanted*, by name or group, in the order of the inventory; all for none.

    Raises:
        SettingsError: a name that is neither a host nor a group, or nothing to select from.
    """
    if LOCAL in wanted:
        if len(set(wanted)) > 1:
            raise SettingsError("'local' is this machine and goes alone, not together with other hosts")
        return [Host(name=LOCAL)]
    if not hosts:
        raise SettingsError("the inventory has no hosts")
    known = {host.name for host in hosts} | {group for host in hosts for group in host.groups}
    for name in wanted:
        if name not in known:
            raise SettingsError(
                f"{name!r} is no host or group of the inventory; there are {', '.join(sorted(known))}"
            )
    return [host for host in hosts if not wanted or host.name in wanted or set(host.groups) & set(wanted)]
