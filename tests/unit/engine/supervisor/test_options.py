"""The command line of the supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.supervisor.options import parse


def test_relative_paths_are_below_the_root() -> None:
    options = parse(["--root", "/srv/p", "--release", "releases/1", "--control", "c.sock"])
    assert options.config == Path("/srv/p/shared/engine.toml")
    assert options.release == Path("/srv/p/releases/1")
    assert options.control == Path("/srv/p/c.sock")
    assert options.run_dir == Path("/srv/p/shared/run")
    assert options.folder == Path("/srv/p/shared")


def test_without_a_root_the_configuration_says_the_folder() -> None:
    options = parse(["--config", "/etc/p/engine.toml"])
    assert (options.root, options.run_dir, options.control, options.release) == (None, None, None, None)
    assert options.folder == Path("/etc/p")


def test_defaults() -> None:
    options = parse(["--root", "/srv/p"])
    assert (options.workers, options.listen, options.handover, options.check) == (1, "", None, False)
    assert (options.bake_s, options.wait_s, options.start_timeout_s) == (5, 60, 60)


@pytest.mark.parametrize(
    "argv",
    [
        ["--root", "/srv/p", "--workers", "4", "--listen", "127.0.0.1:1", "--bake", "0"],
        ["--config", "a.toml", "--run-dir", "run", "--control", "c", "--wait", "2", "--start-timeout", "3"],
    ],
)
def test_the_arguments_of_a_successor_mean_the_same_from_any_folder(argv: list[str]) -> None:
    options = parse(argv)
    again = options.argv()
    assert parse(again) == options
    assert not any(text in again for text in ("a.toml", "run", "c"))


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "--config or --root is needed"),
        (["--root", "r", "--workers", "0"], "from 1 to 256"),
        (["--root", "r", "--workers", "257"], "from 1 to 256"),
        (["--root", "r", "--bake", "soon"], "'soon' is not a number of seconds"),
        (["--root", "r", "--wait", "-1"], "not a number of seconds"),
        (["--root", "r", "--start-timeout", "nan"], "not a number of seconds"),
        (["--root", "r", "--work", "2"], "unrecognized arguments"),
    ],
)
def test_a_mistake_is_named(argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
