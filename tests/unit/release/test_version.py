"""release.build.version: the normal form of a version, and what a commit is released as."""

import pytest

from release.build import version
from release.build.git import Commit
from release.errors import VersionError


@pytest.mark.parametrize(
    ("given", "means"), [("V0.1.10", "0.1.10"), ("v1.0-rc.1", "1.0rc1"), ("1.2.0+local_x", "1.2.0+local.x")]
)
def test_versions_take_their_normal_form(given: str, means: str) -> None:
    assert version.normal(given) == means


@pytest.mark.parametrize("given", ["", "one", "1.2.x", "1!2.0", "1.0 rc", "../1", "-1"])
def test_what_is_no_version_is_refused_with_what_is(given: str) -> None:
    with pytest.raises(VersionError, match=r"is no PEP 440 version; right are|has an epoch; take 2\.0"):
        version.normal(given)


def test_a_commit_without_a_tag_is_released_as_its_place_and_revision() -> None:
    commit = Commit(revision="ab" * 20, time=7, count=3, tags=(), changed=())
    assert version.decide(commit) == version.Stamp("0.dev3+gababababab", "ab" * 20, 7)


def tagged(*tags: str) -> str:
    commit = Commit(revision="ab" * 20, time=7, count=3, tags=tags, changed=())
    return version.decide(commit).version


@pytest.mark.parametrize(
    "tag", ["2026-11-29", "2026-11", "v2026-11", "20261129", "2026_11_29-hotfix", "2026.11.29-2", "7"]
)
def test_a_tag_that_is_a_date_or_a_bare_number_is_no_version(tag: str) -> None:
    """Not a reason to stop either, and a commit may have one beside its version."""
    assert tagged(tag) == "0.dev3+gababababab"
    assert tagged(tag, "v1.4.2") == "1.4.2"


def test_a_date_that_is_written_as_a_version_is_one() -> None:
    assert tagged("2026.11.29") == "2026.11.29"


def test_a_tag_that_would_become_a_post_release_by_a_dash_is_refused() -> None:
    with pytest.raises(VersionError, match=r"tag '1\.4-2' would mean 1\.4\.post2; write that"):
        tagged("1.4-2")
    assert tagged("1.4.post2") == "1.4.post2"
