"""The wheels of a release: our own, built from exported files, and the locked ones for the hosts' Python.

The lock holds for every Python and platform. `select` takes what a host needs of it; pip downloads that, and
only wheels whose hash is in the lock. Each set is kept in a cache folder named after what was asked for, so
packing again needs no network. Its hashes are checked each time it is used.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from release.build.compiled import GLIBC_MINOR_MAX
from release.build.manifest import sha256_of
from release.errors import ArtefactError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from release.build.compiled import Compiled

_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACHINES: Final = ("x86_64", "aarch64")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_KEPT_SETS: Final = 4
_SAID_LINES: Final = 3
_BUILD: Final = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Target:
    """What the hosts run: ``cp311`` and ``linux_x86_64``, say."""

    python: str
    platform: str

    @property
    def minor(self) -> int:
        """The ``11`` of Python 3.11."""
        return int(self.python.removeprefix("cp3"))

    @property
    def machine(self) -> str:
        """The processor."""
        return self.platform.removeprefix("linux_")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of the lock."""

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def line(self) -> str:
        """This as a line of a requirements file."""
        return requirement(self.name, self.version, sorted(self.hashes))


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel file."""

    path: Path
    name: str
    version: str
    sha256: str


def target(python: str, platform: str) -> Target:
    """Return the target of the settings; an empty *python* means the Python that runs this program.

    Raises:
        SettingsError: a Python before 3.11, or another platform than Linux on one of two processors.
    """
    python = python or f"cp3{sys.version_info.minor}"
    if not re.fullmatch(r"cp3(1[1-9]|[2-9]\d)", python):
        raise SettingsError(f"python {python!r}: takes cp311 or newer, such as cp312")
    if platform not in {f"linux_{machine}" for machine in _MACHINES}:
        raise SettingsError(f"platform {platform!r}: takes {' or '.join(f'linux_{m}' for m in _MACHINES)}")
    return Target(python, platform)


def requirement(name: str, version: str, hashes: Sequence[str]) -> str:
    """Return a line of a requirements file."""
    return f"{name}=={version}" + "".join(f" --hash=sha256:{digest}" for digest in hashes)


def select(lock: str, wanted: Target) -> list[Locked]:
    """Return the packages of the text *lock* that a host needs, by name.

    Which patch release of Python a host has is not known here: a package that only some of them need, such as
    ``python_full_version < '3.11.3'``, goes to all.

    Raises:
        ArtefactError: a line cannot be read, has no hash, or two versions of a package are needed.
    """
    packages: dict[str, Locked] = {}
    for line in lock.replace("\\\n", " ").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            entry = Requirement(text.partition(" --hash")[0])
        except InvalidRequirement as exc:
            raise ArtefactError(f"requirements.lock: {text[:60]!r} cannot be read: {exc}") from exc
        pins = [specifier.version for specifier in entry.specifier if specifier.operator == "=="]
        hashes = frozenset(_HASH.findall(text))
        if len(pins) != 1 or not hashes:
            raise ArtefactError(
                f"requirements.lock: {entry.name} needs one ==version and hashes; lock it again"
            )
        if not _is_needed(entry, wanted):
            continue
        name = canonicalize_name(entry.name)
        if name in packages:
            raise ArtefactError(
                f"requirements.lock: {name} has two versions for {wanted.python}; lock it again"
            )
        packages[name] = Locked(name, pins[0], hashes)
    return [packages[name] for name in sorted(packages)]


def house(lock: str, wanted: Target, cache: Path) -> list[Wheel]:
    """Return the wheels of *lock* for *wanted*, from the folder *cache* or else downloaded into it.

    Raises:
        ArtefactError: a package has no wheel for *wanted*, or pip cannot download it; with pip's reason.
    """
    packages = select(lock, wanted)
    lines = "".join(f"{package.line}\n" for package in packages)
    key = sha256(f"{wanted} {GLIBC_MINOR_MAX}\n{lines}".encode()).hexdigest()[:16]
    folder = cache / "wheels" / key
    if folder.is_dir():
        try:
            wheels = _checked(folder, packages)
        except ArtefactError:
            shutil.rmtree(folder, ignore_errors=True)  # damaged: download it again
        else:
            os.utime(folder)
            return wheels
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{key}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir()
        _download(lines, wanted, fresh)
        _checked(fresh, packages)
        if not folder.is_dir():  # else another pack was quicker
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _forget_old(folder.parent)
    return _checked(folder, packages)


def build(
    source: Path, to: Path, *, time: int, wanted: Target | None = None, compiled: Compiled | None = None
) -> Wheel:
    """Build our wheel from the folder *source* into *to*: the same bytes for the same files and *time*.

    Args:
        source: exported files, nothing else; the build leaves folders of its own there.
        to: an existing folder.
        time: time of every entry, UNIX seconds.
        wanted: what the hosts run, for *compiled*.
        compiled: modules that go into the wheel, which is for *wanted* alone then.

    Raises:
        ArtefactError: it cannot be built; with the last lines that were said.
    """
    to.mkdir(parents=True, exist_ok=True)
    home = source.parent / "home"  # no user's own settings of the build
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.defpath, "HOME": str(home), "SOURCE_DATE_EPOCH": str(time), "LC_ALL": "C.UTF-8"}
    if compiled is not None and wanted is not None:
        tag = f"{wanted.python}-{wanted.python}-manylinux_2_{GLIBC_MINOR_MAX}_{wanted.machine}"
        environment |= {"PURGELINE_COMPILED": str(compiled.folder), "PURGELINE_TAG": tag}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", _BUILD, str(to)],
        check=False,
        cwd=source,
        env=environment,
        umask=0o022,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ArtefactError(f"the wheel could not be built: {_tail(done.stderr)}")
    (path,) = to.glob("*.whl")
    return _wheel(path)


def _is_needed(entry: Requirement, wanted: Target) -> bool:
    if entry.marker is None:
        return True
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": wanted.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_version": f"3.{wanted.minor}",
        "sys_platform": "linux",
    }
    patches = (f"3.{wanted.minor}.0", f"3.{wanted.minor}.99")
    return any(
        entry.marker.evaluate({**environment, "python_full_version": full, "implementation_version": full})
        for full in patches
    )


def _platforms(machine: str) -> list[str]:
    """Return pip's names for what the hosts run, the newest first; pip takes the first that fits."""
    names = []
    for minor in range(GLIBC_MINOR_MAX, 4, -1):
        names.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            names.append(f"{_LEGACY[minor]}_{machine}")
    return [*names, f"linux_{machine}"]


def _download(lines: str, wanted: Target, to: Path) -> None:
    listing = to / "requirements.txt"
    listing.write_text(lines, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "-q"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(to), "-r", str(listing)]
    command += ["--implementation", "cp", "--python-version", f"3.{wanted.minor}"]
    for abi in (wanted.python, "abi3", "none"):
        command += ["--abi", abi]
    for platform in _platforms(wanted.machine):
        command += ["--platform", platform]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ArtefactError(
            f"the locked wheels for {wanted.python}-{wanted.platform} could not be downloaded: "
            f"{_tail(done.stderr)}. They are kept once they are here, so the network is needed only now"
        )
    listing.unlink()


def _checked(folder: Path, packages: Sequence[Locked]) -> list[Wheel]:
    """Return the wheels of *folder* if they are those of *packages*, with hashes of the lock."""
    wheels = {wheel.name: wheel for wheel in map(_wheel, folder.iterdir())}
    for package in packages:
        wheel = wheels.get(package.name)
        if wheel is None or wheel.version != package.version or wheel.sha256 not in package.hashes:
            raise ArtefactError(
                f"{folder}: has no wheel of {package.name} {package.version} as it was locked"
            )
    if len(wheels) != len(packages):
        raise ArtefactError(f"{folder}: has wheels that are not locked")
    return [wheels[name] for name in sorted(wheels)]


def _wheel(path: Path) -> Wheel:
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename as exc:
        raise ArtefactError(f"{path}: is no wheel: {exc}") from exc
    return Wheel(path, name, str(version), sha256_of(path))


def _forget_old(folder: Path) -> None:
    """Remove all but the sets used last, and what a pack that was cut short left a day ago."""
    sets = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [path for path in sets if not path.name.startswith(".")][_KEPT_SETS:]:
        shutil.rmtree(old, ignore_errors=True)


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-_SAID_LINES:]) or "nothing was said"
