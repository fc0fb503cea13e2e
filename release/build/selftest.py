"""Installs an artefact as a host would, without network, and asks it for its version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from release.build import archive
from release.build.manifest import check_files, read_manifest
from release.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from release.build.manifest import Manifest

_TIMEOUT_S: Final = 120
_SAID_LINES: Final = 5
_NO_ENGINE: Final = 3  #: how `purgeline version` ends where no engine answers
_NOWHERE: Final = "http://127.0.0.1:9"  #: the discard port: what asks for a proxy there is refused at once


def run(path: Path) -> Manifest:
    """Unpack the artefact *path* into a temporary folder, install it there and compare its version.

    Raises:
        ArtefactError: any of that failed, or the Python it is for is not on this machine; with the reason.
    """
    manifest = read_manifest(path)
    python = _python(manifest)
    with tempfile.TemporaryDirectory(prefix="purgeline-selftest-") as folder:
        home = Path(folder)
        archive.extract(path, home / "unpacked", top=manifest.top)
        unpacked = home / "unpacked" / manifest.top
        check_files(unpacked, manifest)
        said = _version_of(_install(unpacked, home / "venv", python, home), home)
    wanted = {"version": manifest.version, "revision": manifest.revision, "built_at": manifest.built_at}
    if {key: said.get(key) for key in wanted} != wanted:
        raise ArtefactError(f"{path.name}: says {said} when it is run, its manifest says {wanted}")
    if said.get("compiled") is not bool(manifest.compiler):
        what = "compiled" if manifest.compiler else "interpreted"
        raise ArtefactError(f"{path.name}: its hot modules are not {what}, as its manifest says")
    return manifest


def _install(unpacked: Path, venv: Path, python: str, home: Path) -> Path:
    """Make *venv* and install the wheels of *unpacked* into it; return its folder of programs."""
    _run([python, "-I", "-m", "venv", "--without-pip", str(venv)], home, "make a venv")
    install = [sys.executable, "-I", "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q"]
    install += ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--no-compile", "--no-index"]
    install += ["--require-hashes", "--only-binary=:all:", "--find-links", str(unpacked / "wheels")]
    _run([*install, "-r", str(unpacked / "requirements.txt")], home, "install the wheels without network")
    return venv / "bin"


def _version_of(programs: Path, home: Path) -> dict[str, Any]:
    command = [str(programs / "purgeline"), "version", "--json"]
    text = _run(command, home, "run purgeline version", success=(0, _NO_ENGINE))
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ArtefactError(f"self-test: purgeline version answered {text[:200]!r}, no JSON object")
    return answer


def _run(command: Sequence[str], home: Path, doing: str, *, success: Sequence[int] = (0,)) -> str:
    try:
        done = subprocess.run(
            [*_without_network(), *command],
            check=False,
            cwd=home,
            env=_environment(home),
            umask=0o022,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as exc:
        raise ArtefactError(f"self-test: could not {doing} within {_TIMEOUT_S} s") from exc
    if done.returncode not in success:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ArtefactError(f"self-test: could not {doing}: {' / '.join(said[-_SAID_LINES:])}")
    return done.stdout


def _environment(home: Path) -> Mapping[str, str]:
    """Return an environment without this machine's settings of pip and of the engine."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _NOWHERE)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
        **proxies,
        **{name.upper(): value for name, value in proxies.items()},
    }


def _without_network() -> list[str]:
    """Return the start of a command that has no network, or nothing where this user may not do that."""
    for start in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*start, "true"], check=False, capture_output=True).returncode
        ):
            return start
    return []


def _python(manifest: Manifest) -> str:
    """Return a Python of the artefact's kind."""
    if f"linux_{os.uname().machine}" != manifest.platform:
        raise ArtefactError(
            f"self-test: this machine is {os.uname().machine}, the artefact for {manifest.platform}; pack on "
            "such a machine, or leave the test out with --no-self-test"
        )
    minor = int(manifest.python.removeprefix("cp3"))
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    program = shutil.which(f"python3.{minor}")
    if not program:
        raise ArtefactError(
            f"self-test: needs python3.{minor}, which this machine lacks; install it, or leave the test out "
            "with --no-self-test"
        )
    return program
