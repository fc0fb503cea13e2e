"""Artefacts that install, start and serve like the real one, in a second: a tiny wheel, scripted workers.

The wheel has what the agent asks of the engine, ``check-config``, and `scripted_worker`; for ``serve`` and
``replay`` it is the engine of this tree (`real_engine`), with the *fault* of its behaviour. What its
workers do is ``behaviour.json``, one of the artefact's files. A host may have its own behaviour for a
version, in ``shared/behaviour.json``: ``{"2.0": {"exit_code": 1}}``.
"""

import base64
import hashlib
import io
import json
import platform
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.agent import package
from release.build import archive
from release.build.shipped import supervisor_file
from release.repository import signing
from release.repository.index import Index
from release.repository.repository import open_repository
from release.settings import Settings, parse_settings
from tests.fakes import supervisors

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT), sysconfig.get_path("purelib")]  #: of the engine of this tree, and of what it needs
PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}"
PLATFORM = f"linux_{platform.machine()}"

_MAIN = """\
import json, pathlib, runpy, sys
if sys.argv[1] == "worker":
    release = pathlib.Path(sys.prefix).parent
    shared = release.parents[1] / "shared"
    behaviour = json.loads((release / "behaviour.json").read_text())
    own = shared / "behaviour.json"
    if own.exists():
        behaviour |= json.loads(own.read_text()).get(release.name, {})
    folder = shared / "scripted" / release.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    sys.argv = ["worker", str(folder), *sys.argv[2:]]
    runpy.run_module("scripted", run_name="__main__")
elif sys.argv[1] in ("serve", "replay"):
    release = pathlib.Path(sys.prefix).parent
    behaviour = json.loads((release / "behaviour.json").read_text())
    for name in [name for name in sys.modules if name.partition(".")[0] == "engine"]:
        del sys.modules[name]
    sys.path[:0] = behaviour["paths"]
    from tests.fakes.real_engine import run
    sys.exit(run(behaviour["version"], behaviour.get("fault", "")))
elif "refuse" in pathlib.Path(sys.argv[2]).read_text():
    sys.exit("purgeline: " + sys.argv[2] + ": [engine] unknown key 'refuse'")
"""


@dataclass(frozen=True)
class Small:
    """One artefact and its place in a signed index."""

    path: Path
    version: str
    sha256: str
    size: int
    envelope: bytes
    trusted_keys: list[str]

    def request(self, **more: Any) -> dict[str, Any]:
        """Return what ``unpack`` is asked with."""
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "size": self.size,
            "version": self.version,
            "envelope": base64.b64encode(self.envelope).decode(),
            "trusted_keys": self.trusted_keys,
            "min_free_bytes": 0,
            **more,
        }


def signer(folder: Path, **more: Any) -> Settings:
    """Return settings with a key and a repository of their own below *folder*."""
    key = folder / "release.key"
    public = signing.public_text(signing.load_keys(key)[0]) if key.exists() else signing.new_key(key)
    return parse_settings(
        {
            "key_file": str(key),
            "trusted_keys": [public],
            "state_dir": str(folder / "state"),
            "cache_dir": str(folder / "cache"),
            "repository": str(folder / "repository"),
            **more,
        }
    )


def make(
    folder: Path,
    version: str,
    *,
    engine_says: str = "",
    supervisor: bytes | Mapping[str, bytes] = b"",
    files: Any = None,
    **behaviour: Any,
) -> Path:
    """Write the artefact of *version* into *folder* and return it.

    Args:
        folder: of the artefact and its parts.
        version: of the artefact.
        engine_says: the version that the engine in it says it is, if it lies.
        supervisor: modules instead of the real ones, or the single file of older releases.
        files: name → content of more files.
        behaviour: of its workers, see `scripted_worker`.
    """
    wheel = _wheel(engine_says or version)
    wheel_name = f"purgeline-{version}-py3-none-any.whl"
    contents: dict[str, bytes] = {
        f"wheels/{wheel_name}": wheel,
        "requirements.txt": f"purgeline=={version} --hash=sha256:{_sha256(wheel)}\n".encode(),
        "behaviour.json": json.dumps({"version": version, "paths": PATHS, **behaviour}).encode(),
        "sbom.cdx.json": b"{}",
        **_supervisor(supervisor or supervisors.modules()),
        **{f"agent/{name}": text for name, text in package.contents(ROOT / "release/agent").items()},
        **(files or {}),
    }
    manifest = {
        "format": 1,
        "name": "purgeline",
        "version": version,
        "revision": "0" * 40,
        "built_at": "2026-01-02T03:04:05Z",
        "python": PYTHON,
        "platform": PLATFORM,
        "files": {
            name: {"sha256": _sha256(content), "size": len(content)} for name, content in contents.items()
        },
    }
    contents["manifest.json"] = json.dumps(manifest).encode()
    parts = folder / f"parts-{version}"
    for name, content in contents.items():
        path = parts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    artefact = folder / f"purgeline-{version}-{PYTHON}-{PLATFORM}.tar.gz"
    archive.write(artefact, {f"purgeline-{version}/{name}": parts / name for name in contents}, time=1)
    return artefact


def _supervisor(shipped: bytes | Mapping[str, bytes]) -> dict[str, bytes]:
    if isinstance(shipped, bytes):
        return {"supervisor.py": shipped}
    modules = {f"supervisor/{name}": text for name, text in shipped.items()}
    return {"supervisor.py": supervisor_file(shipped).encode(), **modules}


def publish(path: Path, chosen: Settings, *, channel: str = "") -> Index:
    """Publish an artefact and return the index."""
    with open_repository("", chosen) as repository:
        return repository.publish(path, channel=channel).index


def small(folder: Path, version: str, **more: Any) -> Small:
    """Make, publish and describe an artefact; those of one *folder* share a key and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = signer(folder)
    path = make(folder, version, **more)
    publish(path, chosen)
    with open_repository("", chosen) as repository:
        envelope = repository.envelope()
    return Small(
        path=path,
        version=version,
        sha256=_sha256(path.read_bytes()),
        size=path.stat().st_size,
        envelope=envelope,
        trusted_keys=list(chosen.trusted_keys),
    )


def _wheel(version: str) -> bytes:
    info = f"purgeline-{version}.dist-info"
    files = {
        "engine/__init__.py": "",
        "engine/__main__.py": _MAIN,
        "engine/_version.py": f'__version__ = "{version}"\n',
        **{f"engine/{name}.py": "" for name in ("worker", "cli", "config")},  # what an agent before imports
        "scripted.py": (ROOT / "tests/fakes/scripted_worker.py").read_text(encoding="utf-8"),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: purgeline\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            made.writestr(zipfile.ZipInfo(name), text)
    return target.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
