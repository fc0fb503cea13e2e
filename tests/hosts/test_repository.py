"""release.repository: what is published is found, what readers refuse; in a folder and over SSH."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from release.errors import ArtefactError, RepositoryError, SettingsError
from release.repository import signing
from release.repository.index import Index
from release.repository.repository import Repository, open_repository
from release.repository.signed import INDEX
from release.repository.transports.folder import FolderTransport
from release.rollout import localhost
from release.settings import Settings
from tests.fakes import artefacts
from tests.rigs.sftpd import Sshd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")).running() as server:
        yield server


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """Settings with a key and a repository of their own; files of other fixtures stay apart from it."""
    return msgspec.structs.replace(
        artefacts.signer(tmp_path), repository=str(tmp_path / "srv" / "repository")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "srv" / "repository"


@pytest.fixture(params=["folder", "ssh"])
def url(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same folder, by both ways that write."""
    if request.param == "folder":
        return str(folder)
    sshd: Sshd = request.getfixturevalue("sshd")
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return sshd.url(folder)


@pytest.fixture
def repository(url: str, chosen: Settings) -> Iterator[Repository]:
    with open_repository(url, chosen) as opened:
        yield opened


def reader(folder: Path, chosen: Settings, tmp_path: Path, **more: Any) -> Repository:
    """Return the repository as a machine sees it that has not seen it before."""
    fresh = msgspec.structs.replace(chosen, state_dir=str(tmp_path / f"fresh-{time.monotonic_ns()}"))
    return Repository(FolderTransport(folder), fresh, **more)


def versions(index: Index) -> list[str]:
    return sorted(index.versions())


# publishing and reading


def test_what_is_published_is_found_and_fetched(repository: Repository, folder: Path, tmp_path: Path) -> None:
    path = artefacts.make(tmp_path, content=os.urandom(700_000))
    change = repository.publish(path, channel="canary")
    assert len(change.notes) == 2
    index = repository.index()
    assert (index.channel("canary"), change.index.serial) == ("1.0", index.serial)
    found = index.find("1.0", python="cp311", platform="linux_x86_64")
    fetched = repository.fetch(found, tmp_path / "to")
    assert fetched.read_bytes() == path.read_bytes()
    assert [p.name for p in fetched.parent.iterdir()] == [path.name]
    before = fetched.stat().st_ino
    assert repository.fetch(found, tmp_path / "to").stat().st_ino == before, "a good copy is taken as it is"
    assert {p.name for p in folder.iterdir()} == {INDEX, path.name}
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o644}


def test_publishing_again_changes_nothing_and_other_bytes_are_refused(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    path = artefacts.make(tmp_path, content=b"one")
    repository.publish(path)
    before = (folder / INDEX).read_bytes()
    assert not repository.publish(path).is_change
    other = artefacts.make(tmp_path / "other", content=b"two")
    with pytest.raises(RepositoryError, match=r"1\.0 is published with other bytes .* take a new version"):
        repository.publish(other)
    moved = artefacts.make(tmp_path / "moved", revision="f" * 40, python="cp312")
    with pytest.raises(
        RepositoryError, match=r"1\.0 is published, made from commit 0123456789, and this one"
    ):
        repository.publish(moved)
    assert (folder / INDEX).read_bytes() == before
    assert (folder / path.name).read_bytes() == path.read_bytes()
    assert {p.name for p in folder.iterdir()} == {INDEX, path.name}


def test_an_artefact_that_is_gone_from_the_folder_is_put_back(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    path = artefacts.make(tmp_path)
    repository.publish(path)
    (folder / path.name).unlink()
    assert "put back" in repository.publish(path).notes[0]
    assert (folder / path.name).read_bytes() == path.read_bytes()


def test_channels_move_and_a_yanked_version_is_given_to_nobody(
    repository: Repository, tmp_path: Path
) -> None:
    for version in ("1.0", "1.1"):
        repository.publish(artefacts.make(tmp_path, version), channel="canary")
    repository.promote("1.0", "stable")
    assert repository.index().channels == {"canary": "1.1", "stable": "1.0"}
    with pytest.raises(SettingsError, match=r"--yank 1\.0 needs --reason"):
        repository.yank("1.0", " ")
    repository.yank("1.0", "loses tasks")
    index = repository.index()
    with pytest.raises(RepositoryError, match=r"1\.0 was yanked: loses tasks; take 1\.1"):
        index.find("1.0", python="cp311", platform="linux_x86_64")
    with pytest.raises(RepositoryError, match=r"stable names 1\.0, which was yanked: loses tasks; point it"):
        index.channel("stable")
    with pytest.raises(RepositoryError, match=r"1\.0 was yanked: loses tasks; publish a new version"):
        repository.publish(artefacts.make(tmp_path, "1.0"))
    with pytest.raises(RepositoryError, match=r"1\.0 was yanked: loses tasks; no channel may name it"):
        repository.promote("1.0", "canary")


def test_questions_that_have_no_answer_say_what_there_is(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"has no index\.json; publish something"):
        repository.index()
    with pytest.raises(RepositoryError, match=r"has no index\.json"):
        repository.refresh()
    with pytest.raises(RepositoryError, match=r"there is no version 3; there is none to take"):
        repository.promote("3", "stable")
    repository.publish(artefacts.make(tmp_path))
    index = repository.index()
    with pytest.raises(RepositoryError, match=r"no version 2\.0; there is 1\.0"):
        index.find("2.0", python="cp311", platform="linux_x86_64")
    with pytest.raises(
        RepositoryError, match=r"no build for cp312-linux_x86_64, only for cp311-linux_x86_64"
    ):
        index.find("1.0", python="cp312", platform="linux_x86_64")
    with pytest.raises(RepositoryError, match="channel stable names no version yet"):
        index.channel("stable")
    with pytest.raises(SettingsError, match=r"channel 'beta': take canary or stable"):
        index.channel("beta")
    with pytest.raises(SettingsError, match=r"channel 'beta': take canary or stable"):
        repository.promote("1.0", "beta")


def test_a_dry_run_writes_nothing_but_refuses_the_same(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    path = artefacts.make(tmp_path)
    assert repository.publish(path, channel="stable", dry_run=True).notes
    assert not folder.exists()
    repository.publish(path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert repository.yank("1.0", "bad", dry_run=True).notes == [f"yank {path.name}: bad"]
    assert repository.refresh(dry_run=True).is_change
    with pytest.raises(RepositoryError, match="other bytes"):
        repository.publish(artefacts.make(tmp_path / "other", content=b"two"), dry_run=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_serials_grow_and_a_new_repository_goes_on_above_the_old_one(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    """Hosts have seen the old serials; a repository that began at 1 again would be refused by all of them."""
    now = 1_800_000_000.0
    first = Repository(FolderTransport(folder), chosen, clock=lambda: now)
    serials = [
        first.publish(artefacts.make(tmp_path, version)).index.serial for version in ("1.0", "1.1", "1.2")
    ]
    assert serials == sorted(set(serials))
    (folder / INDEX).unlink()
    again = first.publish(artefacts.make(tmp_path, "1.3"))
    assert again.index.serial > serials[-1]
    assert versions(first.index()) == ["1.3"]
    elsewhere = reader(tmp_path / "elsewhere", chosen, tmp_path, clock=lambda: now + 60)
    assert elsewhere.publish(artefacts.make(tmp_path, "1.0")).index.serial > again.index.serial


# distrust


def test_an_old_index_that_was_put_back_is_refused(folder: Path, chosen: Settings, tmp_path: Path) -> None:
    repository = Repository(FolderTransport(folder), chosen)
    repository.publish(artefacts.make(tmp_path, "1.0"))
    old = (folder / INDEX).read_bytes()
    repository.publish(artefacts.make(tmp_path, "1.1"))
    (folder / INDEX).write_bytes(old)
    with pytest.raises(RepositoryError, match=r"is an old one \(serial \d+; \d+ was seen before\)"):
        repository.index()
    with pytest.raises(RepositoryError, match=r"is an old one"):
        repository.publish(artefacts.make(tmp_path, "1.2"))
    assert versions(reader(folder, chosen, tmp_path).index()) == ["1.0"], "who has not seen more cannot tell"
    other_address = tmp_path / "link"
    other_address.symlink_to(folder)
    with pytest.raises(RepositoryError, match=r"is an old one"):
        Repository(FolderTransport(other_address), chosen).index()


def test_a_yanked_version_is_not_packed_anew_for_this_machine(chosen: Settings, tmp_path: Path) -> None:
    """It was refused with ``--release``, and deployed to ``local`` without."""
    localhost.refuse_yanked(chosen, "1.0")
    with open_repository("", chosen) as repository:
        repository.publish(artefacts.make(tmp_path, "1.0"))
        localhost.refuse_yanked(chosen, "1.0")
        repository.yank("1.0", "loses callbacks")
    with pytest.raises(RepositoryError, match="was yanked: loses callbacks; take a new version"):
        localhost.refuse_yanked(chosen, "1.0")
    localhost.refuse_yanked(chosen, "1.1")


def test_an_index_expires_and_is_renewed(folder: Path, chosen: Settings, tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    repository = Repository(FolderTransport(folder), chosen, clock=lambda: now[0])
    repository.publish(artefacts.make(tmp_path))
    now[0] += chosen.index_ttl_s + 1
    with pytest.raises(RepositoryError, match=r"expired on 20\d\d-.* UTC; renew it with \./inv repo"):
        repository.index()
    repository.refresh()
    assert versions(repository.index()) == ["1.0"]


def test_an_index_of_an_unknown_key_or_a_changed_one_is_refused(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    repository = Repository(FolderTransport(folder), chosen)
    repository.publish(artefacts.make(tmp_path))
    (tmp_path / "other").mkdir()
    stranger = artefacts.signer(tmp_path / "other")
    with pytest.raises(RepositoryError, match="signed by an unknown key"):
        reader(folder, stranger, tmp_path).index()
    with pytest.raises(RepositoryError, match="signed by an unknown key"):
        reader(folder, stranger, tmp_path).publish(artefacts.make(tmp_path, "1.1"))
    envelope = json.loads((folder / INDEX).read_bytes())
    envelope["payload"] = "AAAA" + envelope["payload"][4:]
    (folder / INDEX).write_text(json.dumps(envelope))
    with pytest.raises(RepositoryError, match=r"was changed after key \w+ signed it"):
        repository.index()
    with pytest.raises(RepositoryError, match="was changed after key"):
        repository.publish(artefacts.make(tmp_path, "1.1"))


def test_a_key_that_nobody_trusts_signs_nothing(folder: Path, chosen: Settings, tmp_path: Path) -> None:
    other = msgspec.structs.replace(chosen, trusted_keys=[signing.new_key(tmp_path / "second")])
    with pytest.raises(RepositoryError, match=r"nobody would trust its signature; add .* to trusted_keys"):
        Repository(FolderTransport(folder), other).publish(artefacts.make(tmp_path))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-1], "ended after"),
        (lambda content: content + b"x", "is larger than"),
        (lambda content: bytes([content[0] ^ 1]) + content[1:], "SHA-256 is not the one of the index"),
    ],
)
def test_a_damaged_artefact_is_refused_and_leaves_nothing(
    repository: Repository, folder: Path, tmp_path: Path, damage: Callable[[bytes], bytes], why: str
) -> None:
    path = artefacts.make(tmp_path)
    repository.publish(path)
    (folder / path.name).write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtefactError, match=why):
        repository.fetch(repository.index().artefacts[0], tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_what_is_no_artefact_is_not_published(repository: Repository, folder: Path, tmp_path: Path) -> None:
    path = artefacts.make(tmp_path)
    renamed = path.with_name(path.name.replace("1.0", "2.0"))
    path.rename(renamed)
    wrong = [renamed, tmp_path / "none.tar.gz", tmp_path / "purgeline-1.0-cp311-linux_x86_64.tar.gz"]
    wrong[2].write_bytes(b"hello")
    for bad in wrong:
        with pytest.raises(ArtefactError):
            repository.publish(bad)
    assert not folder.exists()
