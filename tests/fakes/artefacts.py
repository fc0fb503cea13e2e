"""Small artefacts in the real form, and a key and settings to publish them with."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from release.build import archive
from release.build.manifest import MANIFEST, FileEntry, Manifest
from release.repository import signing
from release.settings import Settings, parse_settings

REVISION = "0123456789abcdef0123456789abcdef01234567"


def make(
    folder: Path,
    version: str = "1.0",
    *,
    content: bytes = b"one",
    revision: str = REVISION,
    python: str = "cp311",
    platform: str = "linux_x86_64",
) -> Path:
    """Write the artefact of *version* into *folder*; it holds one file with *content*."""
    parts = folder / f"parts-{version}-{python}"
    parts.mkdir(parents=True, exist_ok=True)
    (parts / "data").write_bytes(content)
    manifest = Manifest(
        version=version,
        revision=revision,
        built_at="2026-01-02T03:04:05Z",
        python=python,
        platform=platform,
        files={"data": FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))},
    )
    (parts / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    path = folder / manifest.file_name
    archive.write(path, {f"{manifest.top}/{name}": parts / name for name in ("data", MANIFEST)}, time=1)
    return path


def signer(folder: Path, **more: Any) -> Settings:
    """Make a key in *folder*, and settings that sign with it and trust it."""
    public = signing.new_key(folder / "release.key")
    return parse_settings(
        {
            "key_file": str(folder / "release.key"),
            "trusted_keys": [public],
            "state_dir": str(folder / "state"),
            "cache_dir": str(folder / "cache"),
            **more,
        }
    )


def share_wheels(cache: Path, wheels: Path) -> Path:
    """Make a cache folder whose fetched wheels are in *wheels*; return it."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "wheels").symlink_to(wheels)
    return cache
