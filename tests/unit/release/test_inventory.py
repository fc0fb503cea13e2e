"""The inventory: reading it, refusing wrong ones, selecting hosts."""

from pathlib import Path

import pytest

from release.errors import SettingsError
from release.inventory import Host, load_inventory, select_hosts

TWO = """
[[hosts]]
name = "cdn-1"
address = "192.0.2.11"
user = "deploy"
groups = ["canary", "eu"]
[[hosts]]
name = "cdn-2"
port = 2222
groups = ["eu"]
python = "/opt/python3.11/bin/python3"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "hosts.toml"
    path.write_text(text)
    return path


def test_hosts_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    """With defaults for what is left out."""
    first, second = load_inventory(written(tmp_path, TWO))
    assert first == Host(name="cdn-1", address="192.0.2.11", user="deploy", groups=["canary", "eu"])
    assert (second.port, second.python, second.user) == (2222, "/opt/python3.11/bin/python3", "")


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    """Or which host needs none."""
    with pytest.raises(SettingsError, match=r"no such inventory; write \[\[hosts\]\] tables .* --host local"):
        load_inventory(tmp_path / "hosts.toml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "[[hosts]]\nname = 'a'\nadress = 'x'",
            r"hosts\[0\] \(a\): unknown key 'adress'; did you mean 'address'",
        ),
        ("[[hosts]]\naddress = 'x'", r"hosts\[0\] \(no name\)"),
        ("[[hosts]]\nname = 'a b'", "host name 'a b': use 1-64 of"),
        ("[[hosts]]\nname = 'local'", "and not 'local'"),
        ("[[hosts]]\nname = 'a'\naddress = '-oProxyCommand=x'", "do not begin with '-'"),
        ("[[hosts]]\nname = 'a'\nport = 70000", "port takes 1-65535, not 70000"),
        ("[[hosts]]\nname = 'a'\n[[hosts]]\nname = 'a'", "'a' is there twice"),
        ("[[host]]\nname = 'a'", "unknown key 'host'; did you mean 'hosts'"),
        ("hosts = 3", "hosts: expected `array`"),
        ("[[hosts", "cannot be read"),
    ],
)
def test_a_wrong_inventory_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    """File, host and key are in the sentence."""
    with pytest.raises(SettingsError, match=reason) as caught:
        load_inventory(written(tmp_path, text))
    assert "hosts.toml" in str(caught.value)


def test_hosts_are_selected_by_name_and_group_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Each once; all when nothing is asked for."""
    hosts = load_inventory(written(tmp_path, TWO))
    assert [host.name for host in select_hosts(hosts, [])] == ["cdn-1", "cdn-2"]
    assert [host.name for host in select_hosts(hosts, ["eu", "cdn-1"])] == ["cdn-1", "cdn-2"]
    assert [host.name for host in select_hosts(hosts, ["canary"])] == ["cdn-1"]


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """Rather than left out."""
    hosts = load_inventory(written(tmp_path, TWO))
    with pytest.raises(SettingsError, match=r"'us' is no host or group .* canary, cdn-1, cdn-2, eu"):
        select_hosts(hosts, ["eu", "us"])


def test_this_machine_goes_alone() -> None:
    """It needs no inventory, and has no company."""
    assert [host.is_local for host in select_hosts([], ["local"])] == [True]
    with pytest.raises(SettingsError, match="goes alone"):
        select_hosts([Host(name="a")], ["local", "a"])


def test_an_empty_inventory_has_nothing_to_select_from() -> None:
    """That is an error, not a deploy to no host."""
    with pytest.raises(SettingsError, match="has no hosts"):
        select_hosts([], [])
