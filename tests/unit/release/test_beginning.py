"""release.tasks.beginning: the first command of somebody who takes the project up."""

from pathlib import Path

import pytest
from invoke.exceptions import Exit

from release.settings import load_settings
from release.tasks.beginning import init


def test_init_writes_settings_and_a_key_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the caller's folder; the key of the settings' default, which the environment may name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PURGELINE_RELEASE_KEY_FILE", str(tmp_path / "keys/release.key"))
    init.body(None)
    said = capsys.readouterr().out
    (key,) = load_settings(folder=tmp_path).trusted_keys
    assert f"Public key:  {key} " in said
    assert str(tmp_path / "keys/release.key") in said
    assert "./inv pack && ./inv repo --channel stable\n  ./inv plan\n" in said
    with pytest.raises(Exit, match=r"init: .*/release\.toml is there already") as caught:
        init.body(None)
    assert caught.value.code == 2
    init.body(None, settings="ops/eu.toml")
    assert "it was there" in (said := capsys.readouterr().out)
    assert "./inv plan --settings ops/eu.toml" in said
    assert load_settings(tmp_path / "ops/eu.toml").trusted_keys == [key]
