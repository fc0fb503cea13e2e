"""release.repository.changes: what an index becomes, and what it refuses to become."""

import pytest

from release.build.manifest import Manifest
from release.errors import RepositoryError, SettingsError
from release.repository import changes
from release.repository.index import Index, decode_index, encode_index


def manifest(version: str = "1.0", *, python: str = "cp311", revision: str = "a" * 40) -> Manifest:
    return Manifest(
        version=version,
        revision=revision,
        built_at="2026-01-02T03:04:05Z",
        python=python,
        platform="linux_x86_64",
        files={},
    )


def with_one() -> Index:
    return changes.added(Index(), manifest(), sha256="f" * 64, size=1, now=5.5)


def test_an_artefact_is_added_once() -> None:
    index = with_one()
    assert index.versions() == ["1.0"]
    assert index.artefacts[0].published_at == 5
    assert changes.added(index, manifest(), sha256="f" * 64, size=1, now=9) is index


def test_another_build_of_the_same_commit_is_another_artefact() -> None:
    index = changes.added(with_one(), manifest(python="cp312"), sha256="e" * 64, size=1, now=9)
    assert [entry.python for entry in index.artefacts] == ["cp311", "cp312"]


@pytest.mark.parametrize(
    ("sha256", "revision", "reason"),
    [("e" * 64, "a" * 40, "published with other bytes"), ("f" * 64, "b" * 40, "made from commit aaaaaaaaaa")],
)
def test_a_published_version_never_changes(sha256: str, revision: str, reason: str) -> None:
    with pytest.raises(RepositoryError, match=reason):
        changes.added(with_one(), manifest(revision=revision), sha256=sha256, size=1, now=9)


def test_a_channel_names_a_version_that_can_be_taken() -> None:
    index = changes.pointed(with_one(), "canary", "1.0")
    assert index.channels == {"canary": "1.0"}
    assert changes.pointed(index, "canary", "1.0") is index
    with pytest.raises(SettingsError, match="take canary or stable"):
        changes.pointed(index, "beta", "1.0")
    with pytest.raises(RepositoryError, match="was yanked: bad; no channel may name it"):
        changes.pointed(changes.yanked(index, "1.0", "bad"), "stable", "1.0")


def test_yanking_needs_a_reason_and_leaves_channels_alone() -> None:
    index = changes.pointed(with_one(), "canary", "1.0")
    with pytest.raises(SettingsError, match="needs --reason"):
        changes.yanked(index, "1.0", " ")
    gone = changes.yanked(index, "1.0", " bad ")
    assert (gone.artefacts[0].yanked, gone.channels) == ("bad", {"canary": "1.0"})
    assert changes.yanked(gone, "1.0", "bad") is gone


@pytest.mark.parametrize(
    ("serial", "seen", "now", "expected"), [(0, 0, 100.5, 100), (200, 0, 100, 201), (200, 300, 100, 301)]
)
def test_a_serial_is_higher_than_any_before_it(serial: int, seen: int, now: float, expected: int) -> None:
    index = changes.renewed(Index(serial=serial), now=now, ttl_s=10, seen=seen)
    assert (index.serial, index.expires_at) == (expected, int(now + 10))


def test_the_differences_are_lines_for_a_person() -> None:
    old = Index()
    new = changes.pointed(with_one(), "canary", "1.0")
    name = "purgeline-1.0-cp311-linux_x86_64.tar.gz"
    assert changes.differences(old, new) == [
        f"publish {name} (1 bytes, SHA-256 {'f' * 64})",
        "channel canary: nothing → 1.0",
    ]
    assert changes.differences(new, changes.yanked(new, "1.0", "bad")) == [f"yank {name}: bad"]
    assert changes.differences(new, new) == []


def test_the_newest_versions_and_those_of_channels_are_kept() -> None:
    index = Index()
    for at, version in enumerate(("3.0", "1.0", "2.0", "4.0")):
        index = changes.added(index, manifest(version), sha256="f" * 64, size=1, now=at)
    index = changes.added(index, manifest("2.0", python="cp312"), sha256="e" * 64, size=1, now=2)
    index = changes.pointed(index, "canary", "3.0")
    assert changes.newest(index, 4) is index
    kept = changes.newest(index, 2)
    assert [(entry.version, entry.python) for entry in kept.artefacts] == [
        ("3.0", "cp311"),
        ("2.0", "cp311"),
        ("4.0", "cp311"),
        ("2.0", "cp312"),
    ]


def test_a_repository_keeps_the_id_that_its_first_index_got() -> None:
    first = changes.renewed(Index(), now=1, ttl_s=10, repository="a")
    assert first.repository == "a"
    assert changes.renewed(first, now=1, ttl_s=10, repository="b").repository == "a"
    assert decode_index(encode_index(first), "x").repository == "a"
    older = encode_index(first).replace(b',"repository":"a"', b"")
    assert decode_index(older, "x").repository == ""
