"""release.build.version: what a work tree is released as, and what is refused with which advice. Real git."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from release.build import version
from release.errors import VersionError

ROOT = Path(__file__).resolve().parents[2]


class Tree:
    """A work tree with one commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        self.commit("engine/a.py", "one")

    def git(self, *args: str) -> str:
        who = {
            f"GIT_{role}_{what}": "a@b.example"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        env = os.environ | who | settings
        done = subprocess.run(
            ["git", *args], cwd=self.root, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, name: str, text: str) -> str:
        self.write(name, text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def test_the_tag_on_the_commit_is_the_version(tree: Tree) -> None:
    tree.git("tag", "V0.1.10")
    release = version.determine(tree.root)
    assert (release.version, release.revision) == ("0.1.10", tree.git("rev-parse", "HEAD"))
    assert version.determine(tree.root, release="v0.1.10") == release


def test_without_a_tag_the_commit_gives_the_version(tree: Tree) -> None:
    tree.git("tag", "nightly")  # a tag, but of no version
    revision = tree.commit("engine/a.py", "two")
    assert version.determine(tree.root).version == f"0.dev2+g{revision[:10]}"
    assert version.determine(tree.root, release="3.0").version == "3.0"


def test_a_given_version_may_not_contradict_the_tag(tree: Tree) -> None:
    tree.git("tag", "-a", "-m", "x", "v1.0")
    with pytest.raises(VersionError, match=r"--release 1\.1 contradicts the tag of this commit, 1\.0; leave"):
        version.determine(tree.root, release="1.1")


def test_a_version_whose_tag_is_on_another_commit_is_refused(tree: Tree) -> None:
    tree.git("tag", "v1.0")
    tree.commit("engine/a.py", "two")
    with pytest.raises(VersionError, match=r"the tag v1\.0 is on commit \w+, .* check that tag out"):
        version.determine(tree.root, release="1.0")


def test_a_tag_that_looks_like_a_version_must_be_one(tree: Tree) -> None:
    tree.git("tag", "v1.0-banana")
    with pytest.raises(VersionError, match=r"tag 'v1\.0-banana' is no PEP 440 version"):
        version.determine(tree.root)


def test_tags_of_two_versions_on_one_commit_are_refused(tree: Tree) -> None:
    tree.git("tag", "v1.0")
    tree.git("tag", "1.0")  # the same version
    assert version.determine(tree.root).version == "1.0"
    tree.git("tag", "v2.0")
    with pytest.raises(VersionError, match="tags of several versions"):
        version.determine(tree.root)


@pytest.mark.parametrize("name", ["engine/a.py", "engine/new.py", "notes.txt"])
def test_a_changed_tree_is_refused_and_the_file_named(tree: Tree, name: str) -> None:
    tree.commit("notes.txt", "known")
    tree.write(name, "changed")
    with pytest.raises(VersionError, match=f"differs from its commit: {name}; commit or stash"):
        version.determine(tree.root)


def test_an_unknown_file_that_is_not_shipped_does_not_count(tree: Tree) -> None:
    tree.write("hosts.toml", "mine")
    assert not version.determine(tree.root).is_dirty


def test_a_changed_tree_that_is_allowed_has_a_version_of_its_contents(tree: Tree) -> None:
    clean = version.determine(tree.root, allow_dirty=True)
    assert (clean.is_dirty, "dirty" in clean.version) == (False, False)
    seen = set()
    for text in ("two", "three"):
        tree.write("engine/a.py", text)
        dirty = version.determine(tree.root, allow_dirty=True)
        assert dirty.version.startswith(f"{clean.version}.dirty.")
        assert version.normal(dirty.version) == dirty.version
        seen.add(dirty.version)
    assert len(seen) == 2
    assert version.determine(tree.root, release="1.0", allow_dirty=True).version.startswith("1.0+dirty.")


def test_a_shallow_clone_without_a_tag_is_refused(tree: Tree, tmp_path: Path) -> None:
    tree.commit("engine/a.py", "two")
    shallow = tmp_path / "shallow"
    tree.git("clone", "-q", "--depth=1", tree.root.as_uri(), str(shallow))
    with pytest.raises(VersionError, match="git fetch --unshallow"):
        version.determine(shallow)
    assert version.determine(shallow, release="1.0").version == "1.0"


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="not a git repository"):
        version.determine(tmp_path)


def test_a_wheel_built_from_a_tag_has_the_tags_version(tree: Tree) -> None:
    """By whoever: setuptools asks the module it is told of, alone. Files without git say it."""
    for name in ("release", "engine/_version.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tree.root / name)
    tree.commit("pyproject.toml", "")
    tree.git("tag", "v1.2.3")
    show = "import runpy; print(runpy.run_path('release/build/command.py')['VERSION'])"

    def built() -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-c", show], cwd=tree.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert built() == "1.2.3"
    tree.write("engine/more.py", "")
    assert built().startswith("1.2.3+dirty.")
    shutil.rmtree(tree.root / ".git")
    assert built() == "0+dev"
