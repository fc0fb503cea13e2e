"""release.tasks.hosts: the table of options gives each task its signature, and each value its meaning."""

from typing import Any

import pytest
from invoke.exceptions import Exit

from release.tasks import hosts
from release.tasks.hosts import OPTIONS, Option


@pytest.mark.parametrize(
    ("name", "given", "means"),
    [
        ("channel", "canary", "canary"),
        ("dry_run", True, True),
        ("no_salt", True, False),
        ("no_salt", False, True),
        ("workers", "4", 4),
        ("workers", "", 0),
        ("max_failures", "0", 0),
        ("max_failures", "", -1),
    ],
)
def test_an_option_that_is_given_or_left_out_means_a_value_of_the_work(
    name: str, given: Any, means: Any
) -> None:
    assert hosts._value(name, OPTIONS[name], given) == means


@pytest.mark.parametrize("given", ["0", "two", "-1", "1.5"])
def test_a_number_that_is_none_or_too_small_ends_with_a_sentence(given: str) -> None:
    with pytest.raises(Exit, match=f"--workers takes a number from 1 on, not '{given}'") as caught:
        hosts._value("workers", OPTIONS["workers"], given)
    assert caught.value.code == 2


def test_each_task_has_the_options_that_it_names_and_no_positional_argument() -> None:
    """Else ``inv prune --help`` would run the task."""
    arguments = {argument.name: argument for argument in hosts.prune.get_arguments()}
    assert arguments.keys() == {"host", "settings", "inventory", "root", "dry_run", "keep", "json"}
    assert not any(argument.positional for argument in arguments.values())
    assert arguments["host"].kind is list
    assert arguments["dry_run"].kind is bool
    assert arguments["keep"].help == "good releases that stay; default: the settings'"


def test_every_field_of_the_table_is_one_that_a_task_can_ask_for() -> None:
    from release.hosts.target import Wanted  # noqa: PLC0415 - as the tasks do

    fields = set(Wanted.__struct_fields__)
    assert {option.field for option in OPTIONS.values()} <= fields


def test_an_option_of_one_task_goes_to_its_work_by_a_keyword(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(name: str, work: Any, host: list[str] | None, **more: Any) -> None:
        seen.update(name=name, keywords=work.keywords, host=host, **more)

    monkeypatch.setattr(hosts, "_run", run)

    @hosts._hosts_task("dry_run", count=Option(help="how many", keyword="limit", least=1, default=20))
    def look() -> Any:
        """Look."""
        return dict

    look.body(None, host=["a,b"], settings="", inventory="", root="/x", dry_run=True, count="", json=True)
    assert seen == {
        "name": "look",
        "keywords": {"limit": 20},
        "host": ["a,b"],
        "json": True,
        "options": {"settings": "", "inventory": "", "root": "/x", "is_dry": True},
    }
