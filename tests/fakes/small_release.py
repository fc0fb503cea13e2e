"""Artefacts in the real form, small: an ``engine`` whose worker is scripted, so a host installs them soon.

A host may have its own behaviour for a version, in ``shared/behaviour.json``: ``{"2.0": {"exit_code": 1}}``.
"""

import base64
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from release import archive
from release.artefact import MANIFEST, FileEntry, Manifest
from tests.fakes.artefacts import REVISION

PROJECT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("scripted_worker.py")

_MAIN = '''"""Runs the scripted worker of this release, with what its host says about it."""

import json
import runpy
import sys
from pathlib import Path

if sys.argv[1] != "worker":
    sys.exit(0)  # check-config
release = Path(sys.prefix).parent
shared = release.parents[1] / "shared"
behaviour = json.loads((release / "behaviour.json").read_text())
own = shared / "behaviour.json"
if own.exists():
    behaviour |= json.loads(own.read_text()).get(release.name, {})
script = shared / "scripted" / release.name
script.mkdir(parents=True, exist_ok=True)
(script / "behaviour.json").write_text(json.dumps(behaviour))
sys.argv = ["scripted", str(script)]
runpy.run_module("engine.scripted", run_name="__main__")
'''


def make(folder: Path, version: str, **behaviour: Any) -> Path:
    """Write the artefact of *version* into *folder* and return it.

    Args:
        folder: any folder.
        version: in its normal form.
        behaviour: keys as in `tests.fakes.scripted_worker`.
    """
    parts = folder / f"parts-{version}"
    shutil.rmtree(parts, ignore_errors=True)
    (parts / "wheels").mkdir(parents=True)
    wheel = _wheel(parts / "wheels", version)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (parts / "requirements.txt").write_text(f"purgeline=={version} --hash=sha256:{digest}\n")
    (parts / "behaviour.json").write_text(json.dumps({"version": version, **behaviour}))
    (parts / "sbom.cdx.json").write_text("{}")
    shutil.copy(PROJECT / "engine" / "supervisor.py", parts)
    shutil.copy(PROJECT / "release" / "host.py", parts)
    files = {path.relative_to(parts).as_posix(): path for path in sorted(parts.rglob("*")) if path.is_file()}
    manifest = Manifest(
        version=version,
        revision=REVISION,
        built_at="2026-01-02T03:04:05Z",
        python="cp311",
        platform="linux_x86_64",
        files={
            name: FileEntry(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size)
            for name, path in files.items()
        },
    )
    files[MANIFEST] = parts / MANIFEST
    files[MANIFEST].write_bytes(msgspec.json.encode(manifest))
    artefact = folder / manifest.file_name
    archive.write(artefact, {f"{manifest.top}/{name}": path for name, path in files.items()}, time=1)
    return artefact


def _wheel(folder: Path, version: str) -> Path:
    path = folder / f"purgeline-{version}-py3-none-any.whl"
    info = f"purgeline-{version}.dist-info"
    files = {
        "engine/__init__.py": "",
        "engine/__main__.py": _MAIN,
        "engine/_version.py": f'__version__ = "{version}"\n',
        "engine/cli.py": "",
        "engine/config.py": "",
        "engine/worker.py": "",
        "engine/scripted.py": WORKER.read_text(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: purgeline\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    lines = [f"{name},sha256={_digest(text)},{len(text.encode())}" for name, text in files.items()]
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, record: "\n".join([*lines, f"{record},,"]) + "\n"}.items():
            wheel.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
