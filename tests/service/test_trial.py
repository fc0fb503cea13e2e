"""``purgeline render CACHE --check``: what the cache itself says, by its exit code and its words."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli import trial
from engine.cli.fragments import CanaryPlace, Setting
from engine.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVERS = ("varnish", "nginx", "squid", "ats")
WHOLE = ("--whole", "--port", "18080", "--backend", "127.0.0.1:8080")
TWO = (*WHOLE, "--backend", "[::1]:8081")
CANARIES = """\
[canary]
interval_s = 60
listen = "127.0.0.1:9190"
[[node]]
name = "n"
driver = "{driver}"
url = "http://127.0.0.1:6081"
"""


def check(driver: str, *words: str, code: int = 0) -> None:
    assert main(["render", driver, "--check", "--from", "127.0.0.1", "--from", "fd00::/8", *words]) == code


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_fragment_is_accepted_in_a_configuration_of_somebodys_own(
    driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its canaries, whose lines go elsewhere."""
    path = tmp_path / "engine.toml"
    path.write_text(CANARIES.format(driver=driver))
    check(driver, "--config", str(path))
    command, *_, meaning = capsys.readouterr().out.splitlines()
    assert command.startswith("$ /")
    assert meaning.startswith("accepted: ")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        pytest.param("varnish", WHOLE, marks=pytest.mark.slow),
        ("varnish", TWO),
        ("nginx", TWO),
        ("squid", TWO),
        ("ats", WHOLE),
    ],
)
def test_a_whole_one_is_accepted(
    driver: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    check(driver, *words, "--node", "n", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["cache"], said["node"], said["is_accepted"]) == (driver, "n", True)


PLUGINS = """[[node]]
name = "n"
driver = "ats"
url = "http://127.0.0.1:6081"
rules_file = "{folder}/rules"
rules_state_file = "{folder}/state"
generation_header = "X-Generation"
generation_secret = "s3cret"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user may write to whom Traffic Server turns; those of pytest are of one user."""
    with tempfile.TemporaryDirectory(prefix="purgeline-test-") as name:
        (made := Path(name)).chmod(0o777)
        yield made


@pytest.mark.parametrize("words", [(), WHOLE])
def test_a_check_leaves_rules_and_secrets_of_the_live_cache_alone(
    words: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Traffic Server's check runs regex_revalidate, which writes what it has read into its state file."""
    (path := folder / "engine.toml").write_text(PLUGINS.format(folder=folder))
    (folder / "rules").write_text("^http://a/ 2000000000 STALE\n")
    (state := folder / "state").write_text("^http://a/ 5 9 STALE\n")
    state.chmod(0o666)
    files: list[str] = []
    real_run = trial._run

    def run(*args: Any, **kwargs: Any) -> Any:
        files.extend(each.read_text() for each in kwargs["cwd"].glob("*.config"))
        return real_run(*args, **kwargs)

    monkeypatch.setattr(trial, "_run", run)
    code = main(["render", "ats", "--check", "--config", str(path), *words])
    assert state.read_text() == "^http://a/ 5 9 STALE\n"
    assert (code, "accepted: " in capsys.readouterr().out) == (0, True)
    assert any("remap_purge.so" in text for text in files)
    assert not any("s3cret" in text for text in files)


@pytest.mark.parametrize("driver", DRIVERS)
def test_lines_that_the_cache_does_not_take_are_rejected_with_its_words(driver: str) -> None:
    """Values that the command line and the configuration refuse."""
    broken = Setting(driver, 'a" "b', ["127.0.0.1"], canary=CanaryPlace("a", 1, "/c/\n map }"))
    told = trial.try_out(broken, None)
    assert not told.is_accepted
    assert told.output
    assert told.meaning.startswith("rejected")


def test_a_cache_that_is_not_here_is_not_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(trial, "FOLDERS", ())
    check("varnish", code=3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "varnishd or vinyld is not installed on this machine, so nothing was checked" in printed.err
