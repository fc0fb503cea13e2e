"""Settings of the pipeline: ``release.toml``, and what the environment says over it.

Only this module and `release.inventory` read settings. The file is the one that ``--settings`` names, or
``PURGELINE_RELEASE_SETTINGS``, else ``release.toml`` in the caller's folder, else the one beside the
project. Every key is optional; an unknown one is refused with the nearest known one. The unit ends the name.
Relative paths are meant from the file's folder.

An environment variable ``PURGELINE_RELEASE_<KEY>`` (``PURGELINE_RELEASE_STATE_DIR``) goes over a key: text as
it is, anything else as TOML writes it, relative paths from the caller's folder. Two underscores before the
key mean the same.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from release.calling import call
from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)

ROOT = Path(__file__).resolve().parents[1]  #: the project's folder; site-packages for an installed wheel
FILE: Final = "release.toml"
PREFIX: Final = "PURGELINE_RELEASE_"
NAMED: Final = f"{PREFIX}SETTINGS"  #: names the file
_PATHS: Final = (
    *("key_file", "known_hosts", "state_dir", "cache_dir", "inventory", "ssh_key_file", "pillar", "source"),
    "repository",
)
#: The least that a number may be.
_LEAST: Final = {
    **dict.fromkeys(("keep_count", "parallel_count", "workers", "shadow_requests", "shadow_slices"), 1),
    **dict.fromkeys(("shadow_latency_ratio", "shadow_cpu_ratio"), 1),
    **dict.fromkeys(("bake_s", "failures_max", "min_free_bytes"), 0),
    **dict.fromkeys(("shadow_status_share", "shadow_result_share"), 0),
}
_ABOVE_ZERO: Final = (
    *("index_ttl_s", "reload_timeout_s", "lock_ttl_s", "connect_timeout_s", "step_timeout_s"),
    "shadow_timeout_s",
)
_SPEED: Final = re.compile(r"max|[1-9][0-9]{0,5}%")
_OLD_TABLE: Final = (
    "{path}: [tool.purgeline.release] is not read any more. Move its lines to {file}, without that heading; "
    "[tool.purgeline.release.hooks] becomes [hooks]"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How and where this project is released."""

    repository: str = (
        "dist/repository"  #: folder, ``ssh://[user@]host[:port]/path``, or ``https://…`` (to read)
    )
    key_file: str = "~/.config/purgeline/release.key"  #: private key that signs the index, PEM
    trusted_keys: list[str] = []  #: base64 of raw ed25519 public keys; two while one replaces the other
    source: str = ""  #: checkout that is packed; empty: the one that this program runs from
    index_ttl_s: float = 90 * 86400  #: an index is good for so long after it was written
    known_hosts: str = ""  #: file of trusted SSH host keys; empty: ``~/.ssh/known_hosts`` and the system's
    state_dir: str = "~/.local/state/purgeline"  #: what this machine remembers, such as the last serial seen
    cache_dir: str = "~/.cache/purgeline"  #: wheels that were downloaded; may be removed at any time
    python: str = ""  #: Python of the hosts, such as ``cp311``; empty: the one that runs this
    platform: str = "linux_x86_64"  #: of the hosts: ``linux_x86_64`` or ``linux_aarch64``, with glibc
    hosts: list[dict[str, Any]] = []  #: ``[[hosts]]``, as an inventory has them
    inventory: str = "hosts.toml"  #: the file of the hosts, where none are here
    root: str = "/srv/purgeline"  #: folder on the hosts
    channel: str = "stable"  #: what `deploy` takes without ``--release``
    batches: str = "1,25%,100%"  #: sizes of the batches of hosts, the first is the canary
    failures_max: int = 0  #: hosts that may fail before a deploy stops and rolls back
    keep_count: int = 5  #: good releases kept on a host, the current and the previous one included
    min_free_bytes: int = 300 * 1024 * 1024
    bake_s: float = 5  #: how long a new release is watched before it counts as good
    reload_timeout_s: float = 60  #: for a new worker to become ready, as SIGHUP waits
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
    shadow_requests: int = 10_000  #: of a recording, the first ones, that ``--shadow`` plays
    shadow_slices: int = 40  #: parts in which they are played at both versions, turn about
    shadow_speed: str = "max"  #: such as ``100%``: at the recorded times
    shadow_timeout_s: float = 900  #: for the comparison
    shadow_status_share: float = 0.005  #: of requests that the new version may answer with another status
    shadow_result_share: float = 0.005  #: of tasks that may come to another result
    shadow_latency_ratio: float = 1.3  #: at p50 and at p90, new version to old: what it is at least
    shadow_cpu_ratio: float = 1.3  #: CPU time for the same requests, new version to old
    hooks: dict[str, str] = {}  #: ``pre-deploy``, ``post-reload`` …: shell commands run on this machine


def load_settings(
    path: Path | str | None = None, environ: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> Settings:
    """Read, check and return the settings; paths come back absolute.

    Args:
        path: the file; None or empty: see the module.
        environ: environment that goes over it; the process's when None.
        folder: the caller's; the current one when None.

    Raises:
        SettingsError: the file is not there or cannot be read, or a key is unknown or of the wrong type.
    """
    environ = os.environ if environ is None else environ
    folder = folder or Path.cwd()
    chosen = find_file(path, environ, folder)
    base = (chosen or (ROOT if is_checkout(ROOT) else folder) / FILE).parent
    values = _read(chosen) if chosen else {}
    for place in {base, ROOT}:
        _refuse_old(place / "pyproject.toml", base / FILE)
    over = overrides(environ)
    if over.get("inventory") and values.get("hosts"):
        del values["hosts"]
    where = str(chosen or FILE)
    if values.get("hosts") and values.get("inventory"):
        raise SettingsError(f"{where}: has hosts, and names an inventory of hosts; keep one of the two")
    parse_settings(values, where)
    settings = parse_settings(values | over, f"{where} and {PREFIX}…" if over else where)
    return msgspec.structs.replace(
        settings,
        **{key: _absolute(getattr(settings, key), folder if key in over else base) for key in _PATHS},
    )


def find_file(given: Path | str | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the file of the settings; None: there is none, and defaults hold.

    Raises:
        SettingsError: the file that was named is not there.
    """
    for name, what in ((given, "--settings"), (environ.get(NAMED), NAMED)):
        if name:
            path = folder / Path(name).expanduser()
            if not path.is_file():
                raise SettingsError(f"{what}: {path} is no file; {call('init')} writes one")
            return path
    return next((place / FILE for place in (folder, ROOT) if (place / FILE).is_file()), None)


def is_checkout(folder: Path) -> bool:
    """Tell whether *folder* is a checkout of the project, which can be packed."""
    return (folder / "pyproject.toml").is_file() and (folder / "requirements.lock").is_file()


def source_of(settings: Settings) -> Path:
    """Return the checkout that is packed.

    Raises:
        SettingsError: there is none.
    """
    source = Path(settings.source or ROOT)
    if not is_checkout(source):
        raise SettingsError(
            f"{source}: is no checkout of purgeline, which packing takes; name one as source in {FILE}"
        )
    return source


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {exc}") from exc
    if "tool" in table:
        raise SettingsError(f"{path}: the keys stand here without [tool.purgeline.release]")
    return table


def _refuse_old(path: Path, file: Path) -> None:
    """Refuse the table that settings were in before: nobody means a deploy by defaults in its place."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        table = table["tool"]["purgeline"]["release"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError):
        return
    raise SettingsError(_OLD_TABLE.format(path=path, file=file))


def _absolute(text: str, base: Path) -> str:
    """Return a path as an absolute one; a URL and an empty text as they are."""
    return text if not text.strip() or "://" in text else str(base / Path(text).expanduser())


def overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys that the environment sets.

    Raises:
        SettingsError: a value that is not TOML, where text would be of the wrong type.
    """
    texts = {field.name for field in msgspec.structs.fields(Settings) if field.type is str}
    given: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == NAMED:
            continue
        key = name.removeprefix(PREFIX).removeprefix("_").lower()
        try:
            given[key] = value if key in texts else tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise SettingsError(f"{name}: {value!r} is not written as in TOML") from None
    return given


def parse_settings(table: dict[str, Any], where: str = FILE) -> Settings:
    """Turn the decoded table into `Settings`.

    Args:
        table: of the file.
        where: it came from, for errors.

    Raises:
        SettingsError: see `load_settings`; or a number is out of its range.
    """
    settings = convert(table, Settings, where)
    for key, least in _LEAST.items():
        if not least <= getattr(settings, key) < math.inf:
            raise SettingsError(f"{where}: {key}: takes a number from {least}, not {getattr(settings, key)}")
    for key in _ABOVE_ZERO:
        if not 0 < getattr(settings, key) < math.inf:
            raise SettingsError(f"{where}: {key}: takes seconds above 0, not {getattr(settings, key)}")
    if not _SPEED.fullmatch(settings.shadow_speed):
        raise SettingsError(
            f"{where}: shadow_speed: takes max, or a share of the recorded rate such as 100%, not "
            f"{settings.shadow_speed!r}"
        )
    return settings


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
        raise SettingsError(f"{where}: {path.rstrip('`')}: {text[0].lower()}{text[1:]}") from exc
