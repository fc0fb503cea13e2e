"""Builds the artefact of one commit: two packs of the same commit are the same bytes.

The files that git has of the commit are exported to a temporary folder, and the version is written into that
copy; the work tree is left as it is. Our wheel, the locked wheels, the list of parts and the manifest are put
together, and the artefact is installed and asked for its version before it gets its name.
"""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from release.agent import package
from release.build import archive, compiled, git, selftest, shipped, version, wheels
from release.build.manifest import MANIFEST, NAME, FileEntry, Manifest, sha256_of
from release.errors import ArtefactError, VersionError
from release.settings import load_settings, source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from release.build.version import Stamp
    from release.settings import Settings

#: Folder of the artefact → where it is in the tree.
FOLDERS: Final = {
    "agent": "release/agent",
    "salt": "salt",
    "supervisor": "engine/supervisor",
    "templates": "templates",
}
#: Files that a host cannot do without.
NEEDED: Final = ("supervisor.py", "supervisor/__main__.py", "agent/__main__.py")
#: What the agent of the version before imports to try a release, where it is gone from the tree. A controller
#: of that version brings its own agent to the hosts.
NAMES_BEFORE: Final = ("engine/worker.py",)
_NAME_BEFORE: Final = '"""Nothing: the version before tries a release by importing this name."""\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An artefact that was packed."""

    path: Path
    version: str
    revision: str
    built_at: str  #: time of the commit, ISO 8601
    python: str
    platform: str
    sha256: str
    size: int  #: bytes
    is_tested: bool
    compiler: str  #: what compiled the hot modules; empty: they are interpreted
    why_pure: str  #: why they are interpreted
    lacks: list[str] = field(default_factory=list)  #: files a host needs that the tree does not have


def build(
    *,
    release: str | None,
    out: Path,
    allow_dirty: bool = False,
    root: Path | None = None,
    settings: Settings | None = None,
    self_test: bool = True,
    pure: bool = False,
    say: Callable[[str], object] = lambda _step: None,
) -> Built:
    """Pack the work tree *root* into the folder *out* and return what came out.

    Args:
        release: version; ``None``: from the tag or the commit, see `release.build.version`.
        out: folder, made if missing. An older file of the same name is replaced once the new one is good.
        allow_dirty: take changed files too, under a version that says so.
        root: top of the work tree; by default the settings' source.
        settings: give Python and platform of the hosts and the cache folder; by default the caller's.
        self_test: install it without network and ask its version.
        pure: compile nothing; otherwise the hot modules are compiled where that is possible.
        say: is told each step as it begins.

    Raises:
        VersionError: the tree cannot be released, or not as this version.
        ArtefactError: a step failed; names the step and why. *out* is as before.
        SettingsError: the settings cannot be used.
    """
    settings = settings or load_settings()
    root = root or source_of(settings)
    wanted = wheels.target(settings.python, settings.platform)
    chosen = version.determine(root, release=release, allow_dirty=allow_dirty)
    try:
        with tempfile.TemporaryDirectory(prefix="purgeline-pack-") as folder:
            why_pure = "asked for" if pure else compiled.why_not(wanted.python, wanted.platform)
            cache = Path(settings.cache_dir).expanduser()
            pack = _Pack(chosen, wanted, cache, Path(folder), say, why_pure)
            pack.export(root)
            pack.collect()
            return pack.finish(pack.manifest(), out, self_test=self_test)
    except OSError as exc:
        raise ArtefactError(f"pack: {exc.filename or out}: {exc.strerror or exc}") from exc


@dataclass(slots=True)
class _Pack:
    """One pack under way: `export`, `collect`, `manifest`, `finish`, in this order."""

    stamp: Stamp
    wanted: wheels.Target
    cache: Path
    work: Path  #: a folder that is removed afterwards
    say: Callable[[str], object]
    why_pure: str
    compiler: str = ""
    files: dict[str, Path] = field(default_factory=dict)  #: name in the artefact → where it is now

    @property
    def tree(self) -> Path:
        return self.work / "tree"

    def export(self, root: Path) -> None:
        """Copy what is shipped, and write the version into the copy."""
        self.say(f"export {self.stamp.revision[:10]} as {self.stamp.version}")
        if self.stamp.is_dirty:
            for name in git.work_files(root):
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, self.tree / name)
        else:
            archive.extract(io.BytesIO(git.tar_of(root, self.stamp.revision)), self.tree)
        for name in ("pyproject.toml", "requirements.lock", "engine/_version.py"):
            if not (self.tree / name).is_file():
                raise VersionError(f"{root}: this commit has no {name}; it is no release of purgeline")
        (self.tree / "engine" / "_version.py").write_text(version.module_text(self.stamp), encoding="utf-8")
        for name in NAMES_BEFORE:
            if not (self.tree / name).exists():
                (self.tree / name).write_text(_NAME_BEFORE, encoding="utf-8")

    def collect(self) -> None:
        """Gather every file but the manifest."""
        self.files = {}
        for name, place in FOLDERS.items():
            folder = self.tree / place
            paths = [path for path in folder.rglob("*") if path.is_file()]
            self.files |= {f"{name}/{path.relative_to(folder)}": path for path in paths}
        if modules := package.contents(self.tree / FOLDERS["supervisor"]):
            self._add("supervisor.py", shipped.supervisor_file(modules))
        self.say(f"collect the locked wheels for {self.wanted.python}-{self.wanted.platform}")
        lock = (self.tree / "requirements.lock").read_text(encoding="utf-8")
        others = wheels.house(lock, self.wanted, self.cache)
        own = self._own_wheel()
        if (own.name, own.version) != (NAME, self.stamp.version):
            raise ArtefactError(f"the wheel came out as {own.path.name}, not as {self.stamp.version}")
        pinned = sorted([own, *others], key=lambda wheel: wheel.name)
        self.files |= {f"wheels/{wheel.path.name}": wheel.path for wheel in pinned}
        lines = [wheels.requirement(wheel.name, wheel.version, [wheel.sha256]) for wheel in pinned]
        self._add("requirements.txt", "".join(f"{line}\n" for line in lines))
        from release.build import sbom  # noqa: PLC0415 - every deploy imports this module, and few of them pack

        self._add("sbom.cdx.json", sbom.render(own, others, self.stamp, self.compiler))

    def _own_wheel(self) -> wheels.Wheel:
        """Build our wheel, with the hot modules compiled where that is possible and wanted."""
        built = None
        if not self.why_pure:
            self.say("compile the hot modules (once for their sources: it takes a minute or two)")
            built = compiled.build(self.tree, self.cache)
            self.compiler = built.compiler
        self.say("build the wheel")
        time = self.stamp.time
        return wheels.build(self.tree, self.work / "wheel", time=time, wanted=self.wanted, compiled=built)

    def manifest(self) -> Manifest:
        """List the files."""
        manifest = Manifest(
            version=self.stamp.version,
            revision=self.stamp.revision,
            built_at=self.stamp.built_at,
            python=self.wanted.python,
            platform=self.wanted.platform,
            compiler=self.compiler,
            files={
                name: FileEntry(sha256=sha256_of(path), size=path.stat().st_size)
                for name, path in sorted(self.files.items())
            },
        )
        self._add(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1).decode() + "\n")
        return manifest

    def finish(self, manifest: Manifest, out: Path, *, self_test: bool) -> Built:
        """Write the archive into *out*, test it, and give it its name last."""
        self.say("write the archive")
        out.mkdir(parents=True, exist_ok=True)
        aside = out / f".tmp-{secrets.token_hex(4)}"  # a folder, since the file is read by its name
        aside.mkdir()
        path = aside / manifest.file_name
        try:
            named = {f"{manifest.top}/{name}": file for name, file in self.files.items()}
            archive.write(path, named, time=self.stamp.time)
            if self_test:
                self.say("install it without network and ask its version")
                selftest.run(path)
            path = path.replace(out / manifest.file_name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return Built(
            path=path,
            version=manifest.version,
            revision=manifest.revision,
            built_at=manifest.built_at,
            python=manifest.python,
            platform=manifest.platform,
            sha256=sha256_of(path),
            size=path.stat().st_size,
            is_tested=self_test,
            compiler=self.compiler,
            why_pure=self.why_pure,
            lacks=[name for name in NEEDED if name not in manifest.files],
        )

    def _add(self, name: str, text: str) -> None:
        path = self.work / "texts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.files[name] = path
