"""release.build: packing, wheels, sbom and selftest: one commit, one artefact, and it runs without network.

The tree that is packed is a copy of this one, committed in a repository of the test.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cyclonedx.model.bom import Bom

from release.agent import package
from release.build import archive, compiled, git, packing, sbom, selftest, wheels
from release.build.compiled import Compiled
from release.build.manifest import MANIFEST, FileEntry, Manifest, check_files, read_manifest, sha256_of
from release.build.packing import Built
from release.build.version import Stamp
from release.errors import ArtefactError, VersionError
from release.settings import Settings, parse_settings
from tests.fakes import artefacts

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = wheels.target("", f"linux_{os.uname().machine}")
HASH: Final = "a" * 64

# What packs in a clone with that clone's own code, under another umask and another time zone.
PACK_THERE: Final = """
import os, sys, json
from pathlib import Path
os.umask(0o077)
from release.settings import parse_settings
from release.build import packing
chosen = parse_settings(json.loads(sys.argv[1]))
built = packing.build(release="V0.1.10", out=Path(sys.argv[2]), settings=chosen, self_test=False, pure=True)
print(json.dumps([built.sha256, built.version, packing.__file__]))
"""


def run_git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Packed:
    """One commit, packed in one clone; a second clone; the settings for both."""

    def __init__(self, folder: Path, fetched_wheels: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        for name in (*git.work_files(ROOT), ".gitignore"):  # what packs in a clone leaves bytecode there
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.source / name)
        run_git(self.source, "init", "-q", "-b", "main")
        run_git(self.source, "add", "-A")
        run_git(self.source, "commit", "-q", "-m", "all")
        run_git(self.source, "tag", "v0.1.10")
        self.clones = [folder / "a" / "clone", folder / "another" / "deeper" / "clone"]
        for clone in self.clones:
            clone.parent.mkdir(parents=True)
            run_git(folder, "clone", "-q", str(self.source), str(clone))
        cache = artefacts.share_wheels(folder / "cache", fetched_wheels)
        self.values = {"cache_dir": str(cache), "platform": HERE.platform}
        self.steps: list[str] = []
        self.built = packing.build(
            release=None,
            out=folder / "out",
            root=self.clones[0],
            settings=self.settings,
            pure=True,
            say=self.steps.append,
        )

    @property
    def settings(self) -> Settings:
        return parse_settings(self.values)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, fetched_wheels: Path) -> Packed:
    return Packed(tmp_path_factory.mktemp("packed"), fetched_wheels)


@pytest.fixture
def unpacked(packed: Packed, tmp_path: Path) -> Path:
    archive.extract(packed.built.path, tmp_path / "unpacked")
    return tmp_path / "unpacked" / f"purgeline-{packed.built.version}"


def test_an_artefact_holds_what_a_host_needs_and_says_so(packed: Packed, unpacked: Path) -> None:
    built = packed.built
    assert built.path.name == f"purgeline-0.1.10-{HERE.python}-{HERE.platform}.tar.gz"
    assert (built.sha256, built.size) == (sha256_of(built.path), built.path.stat().st_size)
    assert [path.name for path in built.path.parent.iterdir()] == [built.path.name]
    manifest = read_manifest(built.path)
    check_files(unpacked, manifest)
    assert manifest.revision == run_git(packed.source, "rev-parse", "HEAD")
    assert (manifest.format, manifest.name, manifest.built_at) == (1, "purgeline", built.built_at)
    files = set(manifest.files)
    assert {"requirements.txt", "sbom.cdx.json", "templates/nginx.conf.j2"} <= files
    assert "wheels/purgeline-0.1.10-py3-none-any.whl" in files
    assert {"supervisor.py", "supervisor/start.py", "agent/__main__.py", "agent/program.py"} <= files
    supervisor = package.contents(unpacked / "supervisor")
    assert f'DIGEST: Final = "{package.digest_of(supervisor)}"' in (unpacked / "supervisor.py").read_text()
    assert built.lacks == []
    assert (packed.source / "salt").exists() == any(name.startswith("salt/") for name in files)
    pinned = (unpacked / "requirements.txt").read_text().splitlines()
    assert len(pinned) == len(list((unpacked / "wheels").iterdir()))
    assert all("://" not in line and line.count("--hash=sha256:") == 1 for line in pinned)


def test_the_agent_of_the_version_before_can_try_it(packed: Packed, unpacked: Path) -> None:
    """Its controller brings it along: ``import engine.worker, engine.cli, engine.config``."""
    with zipfile.ZipFile(unpacked / "wheels/purgeline-0.1.10-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
    assert {"engine/worker.py", "engine/cli/__init__.py", "engine/config/__init__.py"} <= names
    assert not (packed.source / "engine/worker.py").exists()


def test_the_wheel_is_the_engine_and_with_an_extra_the_pipeline(packed: Packed, unpacked: Path) -> None:
    """Templates, states and the agent lie inside; `fab` and `inv` come with the extra alone."""
    with zipfile.ZipFile(unpacked / "wheels/purgeline-0.1.10-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        (info,) = (name for name in names if name.endswith("dist-info/METADATA"))
        needs = [line for line in wheel.read(info).decode().splitlines() if line.startswith("Requires-Dist:")]
        (scripts,) = (name for name in names if name.endswith("dist-info/entry_points.txt"))
        programs = wheel.read(scripts).decode().split()
    assert {"release/agent/__main__.py", "release/salt/top.sls", "release/__main__.py"} <= names
    plain = {line.split()[1].partition(">")[0].partition("[")[0] for line in needs if "extra ==" not in line}
    assert plain == {"aiohttp", "msgspec", "redis", "loguru", "prometheus-client", "idna", "jinja2"}
    assert any("uvloop" in line and 'extra == "fast"' in line for line in needs)
    assert any(path.name.startswith("uvloop-") for path in (unpacked / "wheels").iterdir()), "hosts have it"
    assert any("pyjwt" in line and 'extra == "receipts"' in line for line in needs)
    assert any(path.name.startswith("pyjwt-") for path in (unpacked / "wheels").iterdir()), "hosts sign"
    assert any("fabric" in line and 'extra == "release"' in line for line in needs)
    assert programs == ["[console_scripts]", "purgeline", "=", "engine.cli.main:main"]


def test_the_wheel_carries_the_templates(packed: Packed, unpacked: Path) -> None:
    """All of them, so that an installed engine can say what a cache needs."""
    with zipfile.ZipFile(unpacked / "wheels/purgeline-0.1.10-py3-none-any.whl") as wheel:
        carried = {name.removeprefix("engine/") for name in wheel.namelist() if "templates/" in name}
    folder = packed.source / "templates"
    assert carried == {
        f"templates/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()
    }
    assert "templates/monitoring/rules.yml" in carried


def test_the_wheel_carries_the_operators_page(packed: Packed, unpacked: Path) -> None:
    with zipfile.ZipFile(unpacked / "wheels/purgeline-0.1.10-py3-none-any.whl") as wheel:
        carried = {Path(name).name for name in wheel.namelist() if "console/static/" in name}
    assert carried == {path.name for path in (packed.source / "engine/console/static").iterdir()}
    assert {"index.html", "app.js", "style.css"} <= carried


def test_the_self_test_ran_and_the_tree_is_as_before(packed: Packed) -> None:
    assert packed.built.is_tested
    assert packed.steps[-1] == "install it without network and ask its version"
    clone = packed.clones[0]
    assert not run_git(clone, "status", "--porcelain", "--ignored")
    assert '"0+dev"' in (clone / "engine/_version.py").read_text()


def test_two_clones_of_one_commit_give_the_same_bytes(packed: Packed, tmp_path: Path) -> None:
    """Another folder, times of files, umask, time zone, home and user's settings of git change nothing."""
    clone = packed.clones[1]
    for path in clone.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[core]\n\tautocrlf = true\n[tar]\n\tumask = 0077\n[core]\n\tabbrev = 5\n"
    )
    (home / ".pydistutils.cfg").write_text("[bdist_wheel]\nbuild_number = 7\n")
    done = subprocess.run(
        [sys.executable, "-c", PACK_THERE, json.dumps(packed.values), str(tmp_path / "out")],
        cwd=clone,
        env=os.environ | {"HOME": str(home), "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "LC_ALL": "C"},
        check=True,
        capture_output=True,
        text=True,
    )
    sha256, version, used = json.loads(done.stdout)
    assert Path(used).is_relative_to(clone), "the clone's own code packs it"
    assert (sha256, version) == (packed.built.sha256, packed.built.version)


@pytest.mark.slow
def test_a_changed_tree_is_packed_without_network_where_that_is_allowed(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is in the cache; the changed file is in the wheel and the version says what it is."""
    tree = tmp_path / "tree"
    run_git(tmp_path, "clone", "-q", str(packed.source), str(tree))
    (tree / "engine" / "extra.py").write_text("EXTRA = 1\n")
    no_network(monkeypatch)
    monkeypatch.setattr(compiled, "_compiler", lambda: "no-such-compiler")
    with pytest.raises(VersionError, match=r"differs from its commit: engine/extra\.py"):
        packing.build(release=None, out=tmp_path / "out", root=tree, settings=packed.settings)
    built = packing.build(
        release=None,
        out=tmp_path / "out",
        allow_dirty=True,
        root=tree,
        settings=packed.settings,
        self_test=False,
    )
    assert built.version.startswith("0.1.10+dirty.d")
    assert not built.is_tested
    assert (built.compiler, built.why_pure) == ("", "no C compiler (no-such-compiler) is installed")
    archive.extract(built.path, tmp_path / "to")
    (own,) = (tmp_path / "to").rglob("purgeline-0.1.10+dirty*.whl")
    assert (
        "engine/extra.py"
        in subprocess.run(
            [sys.executable, "-m", "zipfile", "-l", str(own)], check=True, capture_output=True, text=True
        ).stdout
    )


def test_a_version_that_contradicts_the_tag_is_refused_before_anything_is_built(
    packed: Packed, tmp_path: Path
) -> None:
    with pytest.raises(VersionError, match=r"--release 0\.2 contradicts the tag"):
        packing.build(release="0.2", out=tmp_path / "out", root=packed.clones[0], settings=packed.settings)
    assert not (tmp_path / "out").exists()


# compiled


def test_a_wheel_with_compiled_modules_is_for_one_python_and_one_machine(
    packed: Packed, tmp_path: Path
) -> None:
    """It installs for no other, nor for a host with an older glibc than the wheels of others need."""
    tree = tmp_path / "tree"
    archive.extract(io.BytesIO(git.tar_of(packed.clones[0], packed.built.revision)), tree)
    library = tmp_path / "built" / "engine" / "nodes" / "wire.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"code")
    built = Compiled(tmp_path / "built", "cc 1.0")
    wheel = wheels.build(tree, tmp_path / "to", time=1_700_000_000, wanted=HERE, compiled=built)
    tag = f"{HERE.python}-{HERE.python}-manylinux_2_28_{HERE.machine}"
    assert wheel.path.name.endswith(f"-{tag}.whl")
    with zipfile.ZipFile(wheel.path) as opened:
        assert {"engine/nodes/wire.so", "engine/nodes/wire.py"} <= set(opened.namelist())
        (info,) = (name for name in opened.namelist() if name.endswith("dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in opened.read(info).decode()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_clones_of_one_commit_give_the_same_bytes_compiled(packed: Packed, tmp_path: Path) -> None:
    """Each compiles for itself; the self-test finds them compiled. Without a compiler the reason is told."""
    why = compiled.why_not()
    packs: list[Built] = []
    for number, clone in enumerate(packed.clones):
        cache = tmp_path / f"cache-{number}"
        shutil.copytree(packed.folder / "cache", cache, ignore=shutil.ignore_patterns(".*"))
        values = {**packed.values, "cache_dir": str(cache)}
        built = packing.build(
            release=None, out=tmp_path / f"out-{number}", root=clone, settings=parse_settings(values)
        )
        assert (bool(built.compiler), built.why_pure) == (not why, why)
        manifest = read_manifest(built.path)
        assert manifest.compiler == built.compiler
        packs.append(built)
    one, other = packs
    assert one.sha256 == other.sha256
    assert (one.sha256 == packed.built.sha256) is bool(why)
    archive.extract(one.path, tmp_path / "to")
    (parts,) = (tmp_path / "to").rglob("sbom.cdx.json")
    said = json.loads(parts.read_text())["metadata"]["component"]["properties"]
    named = [entry["value"] for entry in said if entry["name"] == "purgeline:compiler"]
    assert named == ([] if why else [one.compiler])


@pytest.mark.slow
def test_an_artefact_that_is_not_compiled_and_says_so_fails_its_test(
    packed: Packed, unpacked: Path, tmp_path: Path
) -> None:
    manifest = msgspec.structs.replace(read_manifest(packed.built.path), compiler="cc 1.0")
    with pytest.raises(ArtefactError, match="its hot modules are not compiled, as its manifest says"):
        selftest.run(rebuilt(unpacked, manifest, tmp_path))


# the list of parts


def test_the_list_of_parts_names_every_wheel(packed: Packed, unpacked: Path) -> None:
    text = (unpacked / "sbom.cdx.json").read_text()
    found = json.loads(text)
    listed = {(part["name"], part["version"], part["hashes"][0]["content"]) for part in found["components"]}
    others = [path for path in (unpacked / "wheels").iterdir() if not path.name.startswith("purgeline")]
    there = [wheels._wheel(path) for path in others]
    assert listed == {(wheel.name, wheel.version, wheel.sha256) for wheel in there}
    assert found["metadata"]["component"]["version"] == packed.built.version
    assert found["metadata"]["timestamp"].startswith(packed.built.built_at.rstrip("Z"))
    needed = {entry["ref"]: entry.get("dependsOn", []) for entry in found["dependencies"]}
    assert any(
        ref.startswith("pkg:pypi/aiohttp@") for ref in needed[f"pkg:pypi/purgeline@{packed.built.version}"]
    )
    assert all(part.get("licenses") for part in found["components"]), "every part says its licence"
    assert Bom.from_json(found).metadata.component is not None  # type: ignore[attr-defined]
    own = wheels._wheel(next((unpacked / "wheels").glob("purgeline-*.whl")))
    when = run_git(packed.source, "log", "-1", "--format=%ct")
    release = Stamp(packed.built.version, packed.built.revision, int(when))
    assert sbom.render(own, there[::-1], release) == text, "the same parts give the same bytes"


# the self-test


def rebuilt(folder: Path, manifest: Manifest, to: Path) -> Path:
    """Write the artefact again from *folder* as somebody would who changed it and its manifest."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    entries = {
        name: FileEntry(sha256=sha256_of(path), size=path.stat().st_size)
        for name, path in files.items()
        if name != MANIFEST
    }
    changed = msgspec.structs.replace(manifest, files=entries)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(changed))
    path = to / changed.file_name
    archive.write(path, {f"{changed.top}/{name}": file for name, file in files.items()}, time=1)
    return path


def drop_a_wheel(folder: Path) -> None:
    next((folder / "wheels").glob("aiohttp-*")).unlink()


def swap_a_hash(folder: Path) -> None:
    path = folder / "requirements.txt"
    path.write_text(path.read_text().replace("--hash=sha256:", "--hash=sha256:0", 1)[:-2])


@pytest.mark.parametrize("damage", [pytest.param(drop_a_wheel, marks=pytest.mark.slow), swap_a_hash])
def test_an_artefact_that_cannot_be_installed_fails_its_test(
    packed: Packed, unpacked: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    manifest = read_manifest(packed.built.path)
    damage(unpacked)
    with pytest.raises(ArtefactError, match="could not install the wheels without network: "):
        selftest.run(rebuilt(unpacked, manifest, tmp_path))


@pytest.mark.slow
def test_an_artefact_that_says_another_version_fails_its_test(
    packed: Packed, unpacked: Path, tmp_path: Path
) -> None:
    manifest = msgspec.structs.replace(read_manifest(packed.built.path), revision="f" * 40)
    with pytest.raises(ArtefactError, match=r"says \{.*'revision'.*its manifest says \{.*ffff"):
        selftest.run(rebuilt(unpacked, manifest, tmp_path))


def test_files_that_differ_from_the_manifest_are_named(packed: Packed, unpacked: Path) -> None:
    manifest = read_manifest(packed.built.path)
    (unpacked / "more").write_text("x")
    with pytest.raises(ArtefactError, match="more is not in its manifest"):
        check_files(unpacked, manifest)
    (unpacked / "more").unlink()
    (unpacked / "requirements.txt").write_text("x")
    with pytest.raises(ArtefactError, match=r"requirements\.txt differs"):
        check_files(unpacked, manifest)
    (unpacked / "requirements.txt").unlink()
    with pytest.raises(ArtefactError, match=r"requirements\.txt is missing"):
        check_files(unpacked, manifest)


def test_the_self_test_has_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert selftest._without_network(), "unshare is part of util-linux"
        with pytest.raises(ArtefactError, match=r"could not connect: .*OSError"):
            selftest._run([sys.executable, "-c", code], tmp_path, "connect")


def test_an_artefact_for_another_machine_or_python_is_not_tested_silently(packed: Packed) -> None:
    manifest = read_manifest(packed.built.path)
    for change, why in (
        ({"platform": "linux_riscv64"}, "for linux_riscv64; pack on such a machine, or .* --no-self-test"),
        ({"python": "cp399"}, r"needs python3\.99, which this machine lacks"),
    ):
        with pytest.raises(ArtefactError, match=why):
            selftest._python(msgspec.structs.replace(manifest, **change))


# the cache of wheels


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_what_is_not_in_the_cache_needs_the_network_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch)
    with pytest.raises(
        ArtefactError, match=r"could not be downloaded: .*six.*the network is needed only now"
    ):
        wheels.house(f"six==1.17.0 --hash=sha256:{HASH}\n", HERE, tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == [], "nothing half done is kept"


def test_a_cached_set_that_was_damaged_is_not_used(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    unfinished = shutil.ignore_patterns(".*")  # of another process that packs
    shutil.copytree(packed.folder / "cache", cache, ignore=unfinished)
    lock = (packed.source / "requirements.lock").read_text()
    no_network(monkeypatch)
    assert wheels.house(lock, HERE, cache)
    for wheel in cache.rglob("idna-*.whl"):  # of each set that is there
        wheel.write_bytes(b"another")
    with pytest.raises(ArtefactError, match="could not be downloaded"):
        wheels.house(lock, HERE, cache)


def test_a_task_refuses_with_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "invoke",
            "--search-root",
            str(ROOT),
            "pack",
            "--release",
            "1.x",
            "--out",
            ".",
        ],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pack: --release '1.x' is no PEP 440 version; right are")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_built_is_what_a_deploy_needs(packed: Packed) -> None:
    with tarfile.open(packed.built.path) as tar:
        assert {entry.name.split("/")[0] for entry in tar} == {f"purgeline-{packed.built.version}"}
    assert isinstance(packed.built, Built)
    assert (packed.built.python, packed.built.platform) == (HERE.python, HERE.platform)
