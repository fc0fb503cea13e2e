"""release.states.pillar and the schema of the pillar: what each key takes, and how it is refused."""

from typing import Any

import pytest

from release.errors import SettingsError
from release.settings import Settings
from release.states import files, pillar

TREE = files.read_tree(files.tree_of(Settings()))


def refusal(**engine: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        pillar.check(TREE, engine)
    return str(caught.value)


@pytest.mark.parametrize("value", ["false", "true", 0, 1, None, [], "no"])
def test_only_a_boolean_says_that_data_is_purged(value: object) -> None:
    """The text "false" deleted the root with history and data."""
    assert "is no boolean; write true or false, without quotes" in refusal(purge_data=value)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({"purge_data": "false"}, "pillar engine:purge_data: 'false' (text) is no boolean"),
        ({"rot": "/srv"}, "pillar engine: unknown key 'rot'; known: config, group"),
        ({"unit": {"watchdog": 3}}, "pillar engine:unit: unknown key 'watchdog'; known: dir"),
        ({"unit": None}, "pillar engine:unit: (nothing) is no mapping; its keys: dir"),
        ({"group": "a b"}, "pillar engine:group: 'a b' (text) is no name of an account"),
        ({"group": "a\n"}, "pillar engine:group: 'a\n' (text) is no name"),
        ({"python": "python3; reboot"}, "pillar engine:python: 'python3; reboot' (text) is no absolute path"),
        *(
            ({"root": root}, f"pillar engine:root: '{root}' (text) is no absolute path")
            for root in ("", "/", "/srv", "srv/x", "/srv/..", "/srv/../etc", "/srv/a b", "/srv//a", "/srv/a/")
        ),
        ({"workers": "2"}, "pillar engine:workers: '2' (text) is no whole number from 1"),
        ({"workers": 0}, "pillar engine:workers: '0' (a number) is no whole"),
        ({"workers": True}, "pillar engine:workers: 'True' (a boolean) is no whole"),
        ({"workers": 1.5}, "pillar engine:workers: '1.5' (a number) is no whole"),
        (
            {"unit": {"memory_max": "lots"}},
            "engine:unit:memory_max: 'lots' (text) is no amount of memory",
        ),
        ({"unit": {"memory_max": "4G\nExecStart=/bin/x"}}, "is no amount of memory, such as 4G"),
        ({"unit": {"socket": "no"}}, "pillar engine:unit:socket: 'no' (text) is no boolean"),
        (
            {"config": {"engine": {"listen": "9181"}}},
            "engine:config:engine:listen: '9181' (text) is no HOST",
        ),
        ({"config": {"engine": {"drain_timeout_s": "30\nUser=root"}}}, "is no number of seconds"),
        *(
            ({"config": {"engine": {"data_dir": path}}}, f"data_dir: '{path}' (text) is no folder")
            for path in ("", ".", "..", "../x", "var/../..", "/", "/var", "a b", "/srv/x/../y", "~/x")
        ),
        ({"config": "x"}, "pillar engine:config: 'x' (text) is no mapping"),
        ({"nginx": {"listen": "80"}}, "pillar engine:nginx:listen: '80' (text) is no list"),
        ({"nginx": {"extra": ["a; b"]}}, "pillar engine:nginx:extra:0: 'a; b' (text) is no line without"),
        ({"nginx": {"allow": ["all; #"]}}, "pillar engine:nginx:allow:0: 'all; #' (text) is no network"),
        ({"tuning": {"at_least": {"a; reboot": 1}}}, "'a; reboot' (text) is no key of the kernel"),
        ({"tuning": {"at_least": {"fs.file-max": "1"}}}, "'1' (text) is no whole number from 0"),
        (
            {"tuning": {"exactly": {"a.b": "1; reboot"}}},
            "'1; reboot' (text) is no value of a key",
        ),
        ({"logging": {"size": "100 MB"}}, "pillar engine:logging:size: '100 MB' (text) is no size"),
        ({"release": "../x"}, "pillar engine:release: '../x' (text) is no version"),
    ],
)
def test_what_cannot_be_right_is_refused_with_key_value_and_what_would_be(
    engine: dict[str, Any], text: str
) -> None:
    assert text in refusal(**engine)


@pytest.mark.parametrize(
    "engine",
    [
        {"root": "/srv/purgeline", "workers": 4, "release": "", "purge_data": False},
        {"release": "0.dev12+gabc.dirty.d1", "root": "/home/a@b/x_y-z+1"},
        {"unit": {"memory_max": 4294967296, "socket": False}},
        {"unit": {"memory_max": "80%", "watchdog_s": 30}},
        {"config": {"engine": {"listen": "localhost:80", "drain_timeout_s": 2.5, "due_s": 60}, "node": [{}]}},
        {"config": {"engine": {"listen": "[::1]:9181", "data_dir": "/var/lib/purgeline"}}},
        {"config": {"engine": {"data_dir": "data/var"}}},
        {"nginx": {"listen": ["8443 ssl", "[::]:80"], "allow": ["192.0.2.0/24", "::1"], "package": ""}},
        {"tuning": {"exactly": {"net.ipv4.ip_local_port_range": "10240 65535", "net.ipv4.tcp_tw_reuse": 1}}},
    ],
)
def test_what_is_right_is_taken(engine: dict[str, Any]) -> None:
    pillar.check(TREE, engine)


def test_a_unit_with_a_socket_takes_no_name_to_listen_on() -> None:
    """The unit would be broken; the states check this rule where systemd holds the socket."""
    text = TREE[pillar.SCHEMA] + "{% set schema = {'x': 'address'} %}"
    pillar.check({pillar.SCHEMA: text}, {"x": "127.0.0.1:9181"})
    with pytest.raises(SettingsError, match=r"'localhost:9181' .* systemd takes no names"):
        pillar.check({pillar.SCHEMA: text}, {"x": "localhost:9181"})


def test_states_of_an_older_release_check_by_themselves() -> None:
    pillar.check({}, {"workers": "2"})
