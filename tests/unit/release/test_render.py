"""release.states.render and engine.toml.j2: what goes in comes out, or an error says what is missing."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from engine.config import load
from release.errors import SettingsError
from release.states.render import render

if TYPE_CHECKING:
    from pathlib import Path


def toml(table: dict[str, Any]) -> str:
    return render("engine.toml.j2", {"config": table})


WHOLE: dict[str, Any] = {
    "engine": {"listen": "127.0.0.1:9181", "due_s": 1.5, "log_subtasks": True, "region_count": 64},
    "auth": {"tokens": [{"name": "cms", "sha256": "0" * 64, "scopes": ["read", "submit"], "sites": []}]},
    "site": [{"host": "*"}],
    "layer": [{"name": "z-first"}, {"name": "a-second"}],
    "node": [
        {
            "name": "n",
            "layer": "z-first",
            "driver": "nginx",
            "url": "http://127.0.0.1",
            "headers": {"X.Y": "1"},
        }
    ],
    "door": [{"kind": "purge", "listen": "127.0.0.1:9182", "token": "cms", "default_hosts": ["www.a.org"]}],
    "alert": {"url": "", "secret": '"quotes" \\ \n <&\'> é'},
}


def test_every_kind_of_value_comes_back() -> None:
    text = toml(WHOLE)
    assert tomllib.loads(text) == WHOLE
    load.parse(tomllib.loads(text))


def test_it_reads_well() -> None:
    text = toml({"engine": {"due_s": 5}, "node": [{"name": "n", "headers": {"A B": "c"}}]})
    assert text == (
        "# Written from the pillar; changes here are lost.\n"
        '\n[engine]\ndue_s = 5\n\n[[node]]\nname = "n"\nheaders = {"A B" = "c"}\n'
    )


@pytest.mark.parametrize(
    "table", [{}, {"engine": {}}, {"node": []}, {"engine": None, "auth": {"tokens": []}}]
)
def test_what_is_empty_stays_valid(table: dict[str, Any]) -> None:
    load.parse(tomllib.loads(toml(table)))


def test_what_is_no_table_comes_before_the_tables() -> None:
    """So that check-config names the key, and not the table it would have slipped into."""
    assert tomllib.loads(toml({"engine": {"due_s": 5}, "lisen": "x"})) == {
        "lisen": "x",
        "engine": {"due_s": 5},
    }


def test_nothing_in_a_value_or_a_name_can_add_a_key() -> None:
    table = {"engine": {'a" = 1\n[store]\nurl': '"\n[store]\nurl = "x"'}}
    assert tomllib.loads(toml(table)) == table


def test_a_missing_value_is_named() -> None:
    with pytest.raises(SettingsError, match=r"engine\.toml\.j2: cannot be rendered: 'config' is undefined"):
        render("engine.toml.j2", {})


def test_a_missing_value_in_tojson_is_named_too(tmp_path: Path) -> None:
    """Jinja's own error would only say that StrictUndefined is not serializable."""
    (tmp_path / "t.j2").write_text("{{ engine.listen | tojson }}{{ [engine.port] | tojson }}")
    with pytest.raises(SettingsError, match="has no attribute 'port'"):
        render("t.j2", {"engine": {"listen": "x"}}, folder=tmp_path)


def test_a_value_without_a_form_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"\(object\) has no form in a configuration file"):
        toml({"engine": {"listen": object()}})


def test_no_such_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nope\.j2: no such template"):
        render("nope.j2", {}, folder=tmp_path)


def test_a_broken_template_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("{% if %}")
    with pytest.raises(SettingsError, match=r"t\.j2: cannot be rendered"):
        render("t.j2", {}, folder=tmp_path)
