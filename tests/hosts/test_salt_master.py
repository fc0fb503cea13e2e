"""release.states.master: what is made of its answers, by a fake ``salt``; the real one is in tests/states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from release.errors import ReleaseError, SettingsError
from release.inventory import Host
from release.settings import Settings
from release.states import master
from release.states.apply import Order

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = [Host(name="cdn-1", groups=["canary"]), Host(name="cdn-2", address="192.0.2.2")]
ORDER = Order(root="/srv/purgeline", workers=2, release="1.4.2", channel="canary")


def salt(tmp_path: Path, text: str, code: int = 0, then: str = "") -> Settings:
    """A program that prints *text* as ``salt`` would; keeps its arguments."""
    (tmp_path / "text").write_text(text)
    program = tmp_path / "salt"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat {tmp_path}/text\n{then}\nexit {code}\n'
    )
    program.chmod(0o755)
    return Settings(salt_master=f"{program} -c /etc/salt", step_timeout_s=20)


def state(result: bool | None = True) -> dict[str, Any]:
    return {"result": result, "comment": "", "changes": {}, "__run_num__": 0, "__id__": "a", "name": "n"}


def by_master(settings: Settings) -> list[tuple[bool, str, str]]:
    found = master.apply(HOSTS, ORDER, settings=settings)
    assert [host.host for host in found] == ["cdn-1", "cdn-2"]
    return [(host.ok, host.kind, host.reason) for host in found]


def test_the_master_is_asked_for_exactly_the_hosts(tmp_path: Path) -> None:
    both = json.dumps({name: {"file_|-a_|-n_|-managed": state()} for name in ("cdn-1", "cdn-2")})
    assert by_master(salt(tmp_path, both)) == [(True, "", ""), (True, "", "")]
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:2] == ["-c", "/etc/salt"]
    assert "cdn-1,cdn-2" in arguments
    assert "state.apply" in arguments
    assert "test=False" in arguments
    assert f"--timeout={master.SILENT_S}" in arguments
    assert "--static" not in arguments, "it pings first and leaves out whoever is slow to answer"


def test_a_timeout_of_the_operator_is_kept(tmp_path: Path) -> None:
    settings = salt(tmp_path, "{}")
    by_master(Settings(salt_master=f"{settings.salt_master} --timeout=7"))
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert [one for one in arguments if one.startswith("--timeout")] == ["--timeout=7"]


@pytest.mark.parametrize("answer", ["", '"cdn-2": false', '"cdn-2": "Minion did not return. [No response]"'])
def test_a_minion_that_is_missing_fails_though_salt_ends_with_0(tmp_path: Path, answer: str) -> None:
    first = f'{{"cdn-1": {{"file_|-a_|-n_|-managed": {json.dumps(state())}}}}}'
    found = by_master(salt(tmp_path, f"{first}\n{{{answer}}}\nsome other line"))
    assert found[0] == (True, "", "")
    assert found[1][:2] == (False, "missing")
    assert found[1][2].startswith("its minion gave no answer")
    assert ("Salt says: Minion did not return. [No response]" in found[1][2]) == ("response" in answer)


def test_a_failed_state_and_one_that_cannot_be_rendered_fail(tmp_path: Path) -> None:
    answers = {"cdn-1": {"file_|-a_|-n_|-managed": state(result=False)}, "cdn-2": ["Rendering SLS failed"]}
    assert by_master(salt(tmp_path, json.dumps(answers), code=2)) == [
        (False, "states", "1 of 1 states failed: a"),
        (False, "render", "the states cannot be rendered: Rendering SLS failed"),
    ]


def test_a_master_that_fails_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="ended with 1: No master is running"):
        by_master(salt(tmp_path, "No master is running", code=1))


def test_a_master_that_hangs_is_given_up(tmp_path: Path) -> None:
    settings = salt(tmp_path, "", then="exec sleep 30")
    limited = Settings(salt_master=settings.salt_master, step_timeout_s=0.3)
    with pytest.raises(ReleaseError, match=r"no answer within 0\.3 s"):
        by_master(limited)


def test_no_salt_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="salt is not there: run this on the Salt master"):
        by_master(Settings(salt_master=str(tmp_path / "salt")))
