"""The reference is what the code says: settings, commands, exit codes, and the example of all settings."""

from __future__ import annotations

import re

import msgspec
import pytest

from engine.cli import exits
from tests import command_docs, settings_docs, shell_files

DEPRECATED = {"attempts_max", "verify"}
OF_ALL_DOORS = {"token"}


def test_settings_are_those_of_the_tables() -> None:
    """Written by ``python -m tests.settings_docs``."""
    page = settings_docs.PAGE.read_text(encoding="utf-8")
    assert page == settings_docs.filled(page)
    assert page.count("\n## ") == len(settings_docs.known())


def test_every_setting_is_explained() -> None:
    """By a ``#:`` comment beside its field."""
    assert list(settings_docs.undescribed()) == []


@pytest.mark.parametrize("table", settings_docs.known())
def test_the_example_has_every_key_and_its_defaults_are_those_of_the_code(table: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(settings_docs.known()[table])}
    given = settings_docs.example()[table]
    assert set(given) <= set(fields)
    assert set(fields) - set(given) <= DEPRECATED | OF_ALL_DOORS
    if table in {"engine", "store", "proof", "canary"}:
        defaults = {
            name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            for name, field in fields.items()
        }
        assert given == {name: defaults[name] for name in given}


@pytest.mark.parametrize("table", settings_docs.known())
def test_an_example_is_what_its_key_takes_and_no_key_without_a_default_lacks_one(table: str) -> None:
    kind = settings_docs.known()[table]
    given = settings_docs.examples()[table]
    tag = {"kind": kind.__struct_config__.tag} if kind.__struct_config__.tag else {}
    msgspec.convert(given | tag, kind)
    shown = {name for name, value in given.items() if value or isinstance(value, bool)}
    assert {field.name for field in msgspec.structs.fields(kind)} - shown <= DEPRECATED


def test_commands_are_those_of_the_parser() -> None:
    """Written by ``python -m tests.command_docs``."""
    page = command_docs.PAGE.read_text(encoding="utf-8")
    assert page == command_docs.filled(page)
    assert {name for name, _, _ in command_docs.every()} >= {"purgeline purge", "purgeline debug threads"}


def test_completions_and_the_manual_page_are_those_of_the_parser() -> None:
    """Written by ``python -m tests.shell_files``."""
    written = {path.name: path.read_text(encoding="utf-8") for path in shell_files.FOLDER.iterdir()}
    assert written == shell_files.every_file()
    assert "purgeline debug threads" in written["purgeline.1"]


def test_exit_codes_are_those_of_the_program() -> None:
    page = command_docs.PAGE.read_text(encoding="utf-8")
    codes = {exits.DONE, exits.FAILED, exits.USAGE, exits.UNREACHABLE, exits.INTERRUPTED}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == codes
