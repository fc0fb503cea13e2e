"""Settings of the pipeline: where they come from, and what is said about wrong ones."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from engine.supervisor.options import parse
from release.agent.service import START_WAIT_S
from release.errors import SettingsError
from release.inventory import hosts_of
from release.repository import initial
from release.settings import ROOT, Settings, load_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "release.toml"
    path.write_text(text)
    return path


def test_the_projects_own_settings_can_be_used() -> None:
    """And nothing of this machine changes what is committed."""
    assert load_settings(environ={}).root == "/srv/purgeline"


def test_every_key_is_optional_and_relative_paths_are_meant_from_the_file(tmp_path: Path) -> None:
    """No key at all is fine."""
    loaded = load_settings(written(tmp_path, ""), {})
    assert (loaded.inventory, loaded.repository) == (f"{tmp_path}/hosts.toml", f"{tmp_path}/dist/repository")
    paths = {key: getattr(loaded, key) for key in ("inventory", "repository", "pillar", "key_file")}
    paths |= {key: getattr(loaded, key) for key in ("state_dir", "cache_dir")}
    assert loaded == msgspec.structs.replace(Settings(), **paths)
    text = 'repository = "ssh://r/x"\npillar = "/p.sls"\nssh_key_file = "k"\n'
    loaded = load_settings(written(tmp_path, text), {})
    assert (loaded.repository, loaded.pillar, loaded.known_hosts) == ("ssh://r/x", "/p.sls", "")
    assert loaded.ssh_key_file == f"{tmp_path}/k"


def test_the_file_is_the_named_one_or_the_callers_or_the_projects(tmp_path: Path) -> None:
    """In this order; a name that is no file is told, and not passed over."""
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
        written(folder, f'channel = "{folder.name}"\n')
    assert load_settings("there/release.toml", {}, folder=tmp_path).channel == "there"
    named = {"PURGELINE_RELEASE_SETTINGS": str(there / "release.toml")}
    assert load_settings(None, named, folder=here).channel == "there"
    assert load_settings(here / "release.toml", named, folder=here).channel == "here"
    assert load_settings("", {}, folder=here).channel == "here"
    assert load_settings("", {}, folder=tmp_path).repository == f"{ROOT}/dist/repository"
    with pytest.raises(SettingsError, match=r"--settings: .*/typo.toml is no file; ./inv init writes one"):
        load_settings("typo.toml", {}, folder=tmp_path)


def test_the_table_in_pyproject_is_refused_with_where_it_goes_now(tmp_path: Path) -> None:
    """By defaults in its place another repository or other hosts would be meant."""
    (tmp_path / "pyproject.toml").write_text("[tool.purgeline.release]\nkeep_count = 2\n")
    with pytest.raises(SettingsError, match=r"is not read any more. Move its lines to .*/release.toml, "):
        load_settings(written(tmp_path, ""), {})
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(SettingsError, match=r"without \[tool.purgeline.release\]"):
        load_settings(written(tmp_path, "[tool.purgeline.release]\nkeep_count = 2\n"), {})


def test_hosts_stand_in_the_settings_or_in_an_inventory(tmp_path: Path) -> None:
    """One of the two; what a task or the environment names goes before."""
    hosts = '[[hosts]]\nname = "a"\n'
    (tmp_path / "more.toml").write_text(hosts.replace('"a"', '"b"'))
    settings = load_settings(written(tmp_path, hosts), {})
    assert [host.name for host in hosts_of(settings, [])] == ["a"]
    assert [host.name for host in hosts_of(settings, [], inventory="more.toml", folder=tmp_path)] == ["b"]
    over = {"PURGELINE_RELEASE_INVENTORY": "more.toml"}
    settings = load_settings(tmp_path / "release.toml", over, folder=tmp_path)
    assert [host.name for host in hosts_of(settings, [])] == ["b"]
    with pytest.raises(SettingsError, match="keep one of the two"):
        load_settings(written(tmp_path, 'inventory = "more.toml"\n' + hosts), {})


def test_the_first_settings_name_every_key_with_its_default() -> None:
    """So nobody has to look for what there is; with its comments taken for lines it can be read, too."""
    text = re.sub(r"(?m)^# (\[+\w+\]+$|[\w-]+ = )", r"\1", initial.TEXT.format(public="k"))
    table = tomllib.loads(text)
    assert table.keys() == set(Settings.__struct_fields__)
    given = {key: value for key, value in table.items() if key not in {"trusted_keys", "hosts", "hooks"}}
    defaults = msgspec.structs.asdict(Settings())
    assert given == {key: defaults[key] for key in given}


def test_a_new_worker_has_the_same_time_to_become_ready_whoever_asks_for_it() -> None:
    """The pipeline, a host that is told no time, and the supervisor by itself, such as after SIGHUP."""
    ours = parse(["--root", "/srv/purgeline"]).start_timeout_s
    assert Settings().reload_timeout_s == START_WAIT_S == ours == 60


def test_init_does_not_write_over_settings_and_keeps_a_key(tmp_path: Path) -> None:
    """A second checkout gets the same key."""
    first = initial.write(tmp_path / "a/release.toml", tmp_path / "key")
    assert load_settings(first.path, {}).trusted_keys == [first.public_key]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="is there already"):
        initial.write(tmp_path / "a/release.toml", tmp_path / "key")
    again = initial.write(tmp_path / "b/release.toml", tmp_path / "key")
    assert (again.public_key, again.is_new_key, first.is_new_key) == (first.public_key, False, True)


def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    """A typing error must not be a default in silence."""
    path = written(tmp_path, "failure_max = 2\n")
    with pytest.raises(SettingsError, match=r"unknown key 'failure_max'; did you mean 'failures_max'\?"):
        load_settings(path, {})


def test_a_wrong_type_names_the_key(tmp_path: Path) -> None:
    """With what it takes."""
    path = written(tmp_path, 'keep_count = "five"\n')
    with pytest.raises(SettingsError, match=r"release\.toml: keep_count: expected `int`"):
        load_settings(path, {})


@pytest.mark.parametrize("text", ["[tool", "a = 1\na = 2\n", "\x00"])
def test_a_file_that_is_no_toml_says_so(tmp_path: Path, text: str) -> None:
    """With its name."""
    with pytest.raises(SettingsError, match=r"release\.toml: cannot be read"):
        load_settings(written(tmp_path, text), {})


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    """Text as it is, other types as in TOML."""
    path = written(tmp_path, 'state_dir = "/a"\nbake_s = 1\n')
    environ = {
        "PURGELINE_RELEASE_STATE_DIR": "/b c",
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


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("lock_ttl_s = 0", "lock_ttl_s: takes seconds above 0, not 0"),
        ("lock_ttl_s = -1", "lock_ttl_s: takes seconds above 0, not -1"),
        ("step_timeout_s = inf", "step_timeout_s: takes seconds above 0, not inf"),
        ("connect_timeout_s = nan", "connect_timeout_s: takes seconds above 0, not nan"),
        ("bake_s = -0.5", "bake_s: takes a number from 0, not -0.5"),
        ("workers = 0", "workers: takes a number from 1, not 0"),
        ("shadow_latency_ratio = 0.9", "shadow_latency_ratio: takes a number from 1, not 0.9"),
        ("shadow_timeout_s = 0", "shadow_timeout_s: takes seconds above 0, not 0"),
        ('shadow_speed = "fast"', "shadow_speed: takes max, or a share of the recorded rate"),
    ],
)
def test_a_number_that_nothing_can_be_done_with_is_refused(tmp_path: Path, line: str, why: str) -> None:
    """A lock that is stale at once would be renewed without a pause."""
    with pytest.raises(SettingsError, match=f"release.toml: {why}"):
        load_settings(written(tmp_path, line), {})
