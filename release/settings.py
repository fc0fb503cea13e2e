"""Settings of the pipeline: ``[tool.purgeline.release]`` in pyproject.toml.

Only this module and `release.inventory` read settings. Every key is optional; an unknown one is refused
with the nearest known one. The unit ends the name. An environment variable ``PURGELINE_RELEASE__<KEY>``
(``PURGELINE_RELEASE__STATE_DIR``) goes over a key: text as it is, anything else as TOML writes it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)

ROOT = Path(__file__).resolve().parents[1]  #: the project's folder
PREFIX: Final = "PURGELINE_RELEASE__"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How and where this project is released."""

    repository: str = (
        "dist/repository"  #: folder, ``ssh://[user@]host[:port]/path``, or ``https://…`` (to read)
    )
    key_file: str = "~/.config/purgeline/release.key"  #: private key that signs the index, PEM
    trusted_keys: list[str] = []  #: base64 of raw ed25519 public keys; two while one replaces the other
    index_ttl_s: float = 90 * 86400  #: an index is good for so long after it was written
    known_hosts: str = ""  #: file of trusted SSH host keys; empty: ``~/.ssh/known_hosts`` and the system's
    state_dir: str = "~/.local/state/purgeline"  #: what this machine remembers, such as the last serial seen
    cache_dir: str = "~/.cache/purgeline"  #: wheels that were downloaded; may be removed at any time
    python: str = ""  #: Python of the hosts, such as ``cp311``; empty: the one that runs this
    platform: str = "linux_x86_64"  #: of the hosts: ``linux_x86_64`` or ``linux_aarch64``, with glibc
    inventory: str = "hosts.toml"
    root: str = "/srv/purgeline"  #: folder on the hosts
    channel: str = "stable"  #: what `deploy` takes without ``--release``
    batches: str = "1,25%,100%"  #: sizes of the batches of hosts, the first is the canary
    failures_max: int = 0  #: hosts that may fail before a deploy stops and rolls back
    keep_count: int = 5  #: good releases kept on a host, the current and the previous one included
    min_free_bytes: int = 300 * 1024 * 1024
    bake_s: float = 5  #: how long a new release is watched before it counts as good
    reload_timeout_s: float = 20  #: for a new worker to become ready
    lock_ttl_s: float = 300  #: a deploy lock without a heartbeat is stale after this
    connect_timeout_s: float = 10
    step_timeout_s: float = 300  #: for one step on one host
    parallel_count: int = 16  #: hosts that are worked on at once
    ssh_key_file: str = ""  #: private key for the hosts; empty: the agent's, and those under ~/.ssh
    workers: int = 1  #: processes of the engine on each host
    service: str = "auto"  #: ``systemd``, ``direct`` (started by us), or ``auto``: systemd where it runs
    pillar: str = (
        "pillar.sls"  #: file, or folder with a top.sls: what hosts are told, see salt/pillar.example
    )
    salt_call: str = "salt-call"  #: program on the hosts; a path when it is in an environment of its own
    salt_master: str = "salt"  #: how the master's program is called, such as ``salt -c /srv/salt/etc``
    hooks: dict[str, str] = {}  #: ``pre-deploy``, ``post-reload`` …: shell commands run on this machine


def load_settings(path: Path = ROOT / "pyproject.toml", environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and return the settings.

    Args:
        path: file with the table.
        environ: environment that goes over it; the process's when None.

    Raises:
        SettingsError: the file cannot be read, or a key is unknown or of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {exc}") from exc
    values = table.get("tool", {}).get("purgeline", {}).get("release", {})
    return parse_settings(values | overrides(os.environ if environ is None else environ))


def overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys that the environment sets.

    Raises:
        SettingsError: a value that is not TOML, where text would be of the wrong type.
    """
    texts = {field.name for field in msgspec.structs.fields(Settings) if field.type is str}
    given: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower()
        try:
            given[key] = value if key in texts else tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise SettingsError(f"{name}: {value!r} is not written as in TOML") from None
    return given


def parse_settings(table: dict[str, Any]) -> Settings:
    """Turn the decoded table into `Settings`.

    Raises:
        SettingsError: see `load_settings`.
    """
    return convert(table, Settings, "tool.purgeline.release")


def convert(table: dict[str, Any], kind: type[T], where: str) -> T:
    """Turn a decoded TOML table into a struct, with errors that name the key.

    Raises:
        SettingsError: a key is unknown or of the wrong type.
    """
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
            raise SettingsError(f"{where}: unknown key {key!r}; {hint}")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as exc:
        text, _, path = str(exc).partition(" - at `$.")
        raise SettingsError(f"{where}.{path.rstrip('`')}: {text[0].lower()}{text[1:]}") from exc
