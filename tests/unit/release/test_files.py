"""release.states.files: what of a tree, an artefact, a repository and a pillar goes to a host."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import msgspec
import pytest

from release.build.manifest import Manifest
from release.errors import ArtefactError, RepositoryError, SettingsError
from release.repository import signing
from release.repository.repository import open_repository
from release.settings import Settings
from release.states.files import read_artefact, read_pillar, read_release, read_tree, tree_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def test_the_tree_here_has_states_and_templates() -> None:
    tree = read_tree(tree_of(Settings()))
    assert {"salt/top.sls", "salt/engine/init.sls", "templates/engine.toml.j2"} <= tree.keys()
    assert not any("__pycache__" in path for path in tree)


def test_no_tree_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no state tree"):
        read_tree({"salt": tmp_path})


def write_artefact(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_the_tree_of_an_artefact_is_read_without_unpacking_it(tmp_path: Path) -> None:
    files = {f"purgeline-1.0/{name}": b"x" for name in ("salt/top.sls", "templates/a.j2", "wheels/b.whl")}
    path = write_artefact(tmp_path / "a.tar.gz", files)
    assert read_artefact(path) == {"salt/top.sls": "x", "templates/a.j2": "x"}


def test_what_is_no_artefact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_text("no archive")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_artefact(tmp_path / "a.tar.gz")
    with pytest.raises(ArtefactError, match="has no state tree"):
        read_artefact(write_artefact(tmp_path / "b.tar.gz", {"purgeline-1.0/manifest.json": b"{}"}))


def test_one_pillar_file_is_for_every_host(tmp_path: Path) -> None:
    (tmp_path / "p.sls").write_text("engine: {}")
    found = read_pillar(tmp_path / "p.sls")
    assert found["pillar/hosts.sls"] == "engine: {}"
    assert json.loads(found["pillar/top.sls"]) == {"base": {"*": ["hosts"]}}


def test_a_pillar_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.sls").write_text("a: 1")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("hidden")
    with pytest.raises(SettingsError, match=r"has a top\.sls"):
        read_pillar(tmp_path)
    (tmp_path / "top.sls").write_text("base: {}")
    assert read_pillar(tmp_path) == {"pillar/top.sls": "base: {}", "pillar/sub/a.sls": "a: 1"}


def test_a_missing_pillar_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such pillar; copy salt/pillar\.example"):
        read_pillar(tmp_path / "pillar.sls")


def test_the_tree_of_a_published_version_is_taken_when_it_can_be_trusted(tmp_path: Path) -> None:
    key = signing.new_key(tmp_path / "key")
    settings = Settings(
        repository=str(tmp_path / "repository"),
        state_dir=str(tmp_path / "state"),
        key_file=str(tmp_path / "key"),
        trusted_keys=[key],
    )
    manifest = Manifest(
        version="1.0", revision="r", built_at="", python="cp311", platform="linux_x86_64", files={}
    )
    files = {"manifest.json": msgspec.json.encode(manifest), "salt/top.sls": b"of 1.0"}
    path = write_artefact(
        tmp_path / manifest.file_name, {f"purgeline-1.0/{name}": data for name, data in files.items()}
    )
    with open_repository("", settings) as repository:
        repository.publish(path)
    assert read_release("1.0", settings) == {"salt/top.sls": "of 1.0"}

    with pytest.raises(RepositoryError, match=r"1\.0"):
        read_release("2.0", settings)
    stranger = signing.new_key(tmp_path / "other")
    with pytest.raises(RepositoryError, match="signed by an unknown key"):
        read_release("1.0", msgspec.structs.replace(settings, trusted_keys=[stranger]))
    with open_repository("", settings) as repository:
        repository.yank("1.0", "it is bad")
    with pytest.raises(RepositoryError, match=r"version 1\.0 was yanked: it is bad"):
        read_release("1.0", settings)
