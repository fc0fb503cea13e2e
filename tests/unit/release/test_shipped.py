"""The supervisor as hosts get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.supervisor.__main__ import digest_of
from release.agent import package
from release.build.shipped import supervisor_file
from release.errors import ArtefactError

FOLDER = Path(__file__).resolve().parents[3] / "engine/supervisor"


def test_the_file_names_the_folder_that_it_runs() -> None:
    files = package.contents(FOLDER)
    text = supervisor_file(files)
    compile(text, "supervisor.py", "exec")
    assert f'DIGEST: Final = "{package.digest_of(files)}"' in text
    other = supervisor_file({**files, "more.py": b""})
    assert other != text


def test_supervisor_and_agent_mean_the_same_digest() -> None:
    """The agent names the folder, the supervisor checks it."""
    assert digest_of(FOLDER) == package.digest_of(package.contents(FOLDER))


@pytest.mark.parametrize("files", [{}, {"__main__.py": b"print('hello')\n"}])
def test_what_is_no_supervisor_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ArtefactError, match="has no place for the digest"):
        supervisor_file(files)
