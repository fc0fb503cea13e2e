"""Settings of the pipeline: where they come from, and what is said about wrong ones."""

from pathlib import Path

import pytest

from release.errors import SettingsError
from release.settings import Settings, load_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def test_the_projects_own_settings_can_be_used() -> None:
    """And nothing of this machine changes what is committed."""
    assert load_settings(environ={}).root == "/srv/purgeline"


def test_every_key_is_optional(tmp_path: Path) -> None:
    """No table at all is fine."""
    assert load_settings(written(tmp_path, ""), {}) == Settings()


def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    """A typing error must not be a default in silence."""
    path = written(tmp_path, "[tool.purgeline.release]\nfailure_max = 2\n")
    with pytest.raises(SettingsError, match=r"unknown key 'failure_max'; did you mean 'failures_max'\?"):
        load_settings(path, {})


def test_a_wrong_type_names_the_key(tmp_path: Path) -> None:
    """With what it takes."""
    path = written(tmp_path, '[tool.purgeline.release]\nkeep_count = "five"\n')
    with pytest.raises(SettingsError, match=r"release\.keep_count: expected `int`"):
        load_settings(path, {})


@pytest.mark.parametrize("text", ["[tool", "a = 1\na = 2\n", "\x00"])
def test_a_file_that_is_no_toml_says_so(tmp_path: Path, text: str) -> None:
    """With its name."""
    with pytest.raises(SettingsError, match=r"pyproject\.toml: cannot be read"):
        load_settings(written(tmp_path, text), {})


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    """Text as it is, other types as in TOML."""
    path = written(tmp_path, '[tool.purgeline.release]\nstate_dir = "/a"\nbake_s = 1\n')
    environ = {
        "PURGELINE_RELEASE__STATE_DIR": "/b c",
        "PURGELINE_RELEASE__BAKE_S": "2.5",
        "PURGELINE_RELEASE__TRUSTED_KEYS": '["k1", "k2"]',
        "PURGELINE_ENGINE__LISTEN": "not ours",
    }
    loaded = load_settings(path, environ)
    assert (loaded.state_dir, loaded.bake_s, loaded.trusted_keys) == ("/b c", 2.5, ["k1", "k2"])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("BAKE_S", "soon", "PURGELINE_RELEASE__BAKE_S: 'soon' is not written as in TOML"),
        ("BAKE_S", '"soon"', "bake_s: expected `float`"),
        ("BAKES", "2", "unknown key 'bakes'"),
    ],
)
def test_a_wrong_environment_is_refused(tmp_path: Path, name: str, value: str, reason: str) -> None:
    """As a wrong file is."""
    with pytest.raises(SettingsError, match=reason):
        load_settings(written(tmp_path, ""), {f"PURGELINE_RELEASE__{name}": value})
