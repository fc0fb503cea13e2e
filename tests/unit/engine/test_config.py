"""Files and environments in; a checked configuration, or an error that names the key and its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.config.checks import ENGINE_AT_LEAST, warnings_of
from engine.config.load import load, parse
from engine.config.tables import Config, EngineConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SHA = "0123456789abcdef" * 4
TOKEN = {"name": "t", "sha256": SHA}


def node(**extra: Any) -> dict[str, Any]:
    return {"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:6081", **extra}


def refusal(table: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(table)
    return str(caught.value)


def test_an_empty_file_is_a_whole_configuration() -> None:
    config = parse({})
    assert config == Config()
    assert config.listen_address() == ("127.0.0.1", 9181)
    assert (config.engine.region_count, config.engine.saver_count, config.engine.due_s) == (64, 1, 60)
    assert (config.engine.pipeline_depth, config.store.url) == (64, "sqlite:")


def test_a_full_file_is_read(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("x")
    path = tmp_path / "engine.toml"
    path.write_text(
        f"""
        [engine]
        listen = "[::1]:0"
        due_s = 5
        [store]
        url = "sqlite:"
        [auth]
        tokens = [{{name = "t", sha256 = "{SHA}", scopes = ["submit", "admin"], sites = ["*.example.com"]}}]
        [[site]]
        host = "*.example.com"
        [[layer]]
        name = "parent"
        [[layer]]
        name = "edge"
        [[node]]
        name = "edge-1"
        driver = "nginx"
        url = "https://127.0.0.1:8443/"
        parents = ["parent-1"]
        purge_method = "PURGE"
        purge_path = "/purge"
        wildcard = true
        ca_file = "{ca_file}"
        headers = {{X-Secret = "s"}}
        [[node]]
        name = "parent-1"
        layer = "parent"
        driver = "ats"
        url = "http://[::1]:8080"
        [[callback]]
        host = "hooks.example.com"
        secret = "s"
        [alert]
        url = "https://alerts.example.com/x"
        """
    )
    config = load(path, {})
    assert config.listen_address() == ("::1", 0)
    assert config.engine.due_s == 5
    assert config.node[0].layer == "edge"
    assert config.node[0].parents == ["parent-1"]
    assert config.node[1].parents == []
    assert config.auth.tokens[0].scopes == ["submit", "admin"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[engine", "not valid TOML"),
        ("[engine]\nlisten = 1\n", "engine.listen: expected `str`, got `int`"),
        ('[engine]\ntrace_url = "localhost:4318"\n', "engine: trace_url 'localhost:4318' is not http"),
        ('[engine]\ntrace_url = "http://a:4318/v1/traces"\n', "spans go to its /v1/traces"),
        ("[engine]\nlisten = '127.0.0.1:1'\nlisten = '127.0.0.1:2'\n", "not valid TOML"),
    ],
)
def test_an_error_names_the_file(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "engine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_or_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file"):
        load(tmp_path / "gone.toml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "latin.toml", {})


@pytest.mark.parametrize(
    ("table", "texts"),
    [
        ({"engin": {}}, ["unknown key 'engin'", "did you mean 'engine'?"]),
        ({"engine": {"lisen": ""}}, ["[engine] unknown key 'lisen'", "did you mean 'listen'?"]),
        ({"engine": {"zzz": 1}}, ["unknown key 'zzz'", "known: attempts_max"]),
        ({"node": [node(drivr="x")]}, ["[node] unknown key 'drivr'", "did you mean 'driver'?"]),
        ({"auth": {"tokens": [{**TOKEN, "scope": 1}]}}, ["[auth.tokens]", "did you mean 'scopes'?"]),
        ({"layer": [{"nam": "x"}]}, ["[layer]", "did you mean 'name'?"]),
        ({"site": [{"hots": "x"}]}, ["[site]", "did you mean 'host'?"]),
        ({"callback": [{"hots": "x"}]}, ["[callback]", "did you mean 'host'?"]),
        ({"alert": {"uri": "x"}}, ["[alert]", "did you mean 'url'?"]),
        ({"store": {"urls": "x"}}, ["[store]", "did you mean 'url'?"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    table: dict[str, Any], texts: list[str]
) -> None:
    for text in texts:
        assert text in refusal(table)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"engine": {"due_s": "60"}}, "engine.due_s: expected `float`, got `str`"),
        ({"engine": {"region_count": True}}, "engine.region_count: expected `int`, got `bool`"),
        ({"engine": {"region_count": 1.5}}, "engine.region_count: expected `int`, got `float`"),
        ({"engine": []}, "engine: expected `object`, got `array`"),
        ({"node": {}}, "node: expected `array`, got `object`"),
        ({"node": [{"name": "x", "driver": "ats"}]}, "missing required field `url`"),
        (
            {"engine": {"log_format": "vanish"}},
            "engine.log_format: invalid enum value 'vanish'; takes struct",
        ),
        ({"engine": {"on_incapable": "fail"}}, "takes refuse, skip"),
        ({"engine": {"log_level": "info"}}, "takes DEBUG, INFO, WARNING, ERROR"),
        ({"node": [node(driver="vanish")]}, "'vanish'; takes varnish"),
        ({"node": [node(driver="vanish")]}, "; did you mean 'varnish'?"),
        ({"node": [node(key_mode="x")]}, "takes xkey, ban, none"),
        ({"auth": {"tokens": [{**TOKEN, "scopes": ["all"]}]}}, "'all'; takes submit, read, admin"),
        ({"node": [node(headers={"X": 1})]}, "expected `str`, got `int`"),
    ],
)
def test_a_wrong_type_is_named_with_what_the_key_takes(table: dict[str, Any], text: str) -> None:
    assert text in refusal(table)


@pytest.mark.parametrize("key", sorted(ENGINE_AT_LEAST))
def test_a_number_below_its_least_is_refused_and_the_least_is_taken(key: str) -> None:
    least = ENGINE_AT_LEAST[key]
    assert refusal({"engine": {key: int(least) - 1}}).startswith(f"engine.{key}: ")
    kind = EngineConfig.__annotations__[key]
    value = int(least) if kind == "int" else least
    assert getattr(parse({"engine": {key: value}}).engine, key) == value
    if kind == "float":
        for wrong in (float("nan"), float("inf"), -0.001):
            assert "out of range" in refusal({"engine": {key: wrong}})


def test_every_number_of_the_engine_has_a_least() -> None:
    numbers = {key for key, kind in EngineConfig.__annotations__.items() if kind in {"int", "float"}}
    assert numbers == set(ENGINE_AT_LEAST)


@pytest.mark.parametrize("listen", ["", "127.0.0.1", ":9181", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_a_listen_that_is_no_address_is_refused(listen: str) -> None:
    assert "is not HOST:PORT, such as 127.0.0.1:9181" in refusal({"engine": {"listen": listen}})


def test_a_port_of_other_digits_or_endless_ones_is_refused() -> None:
    assert "is not HOST:PORT" in refusal({"engine": {"listen": "127.0.0.1:" + "1" * 5000}})
    assert "is not HOST:PORT" in refusal({"engine": {"listen": "127.0.0.1:\u0663"}})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql:",
        "redis://a,b",
        "redis+sentinel://a",
        "redis+cluster://a/1",
        "redis://a/x",
        "sqlite:/tmp/x.db",
        "sqlite",
    ],
)
def test_another_store_is_refused(url: str) -> None:
    assert refusal({"store": {"url": url}}).startswith("store.url: ") or url == "sqlite"


RULES = {"driver": "ats", "rules_file": "/rules", "rules_state_file": "/state"}
GENERATION = {"driver": "ats", "generation_header": "X-Generation", "generation_secret": "s"}


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a b"}, "use 1-64"),
        ({"name": "-a"}, "a letter or digit first"),
        ({"name": "x" * 65}, "use 1-64"),
        ({"name": "a,b"}, "use 1-64"),
        ({"url": ""}, "is not http(s)://HOST[:PORT]"),
        ({"url": "127.0.0.1:80"}, "is not http(s)://HOST[:PORT]"),
        ({"url": "ftp://127.0.0.1"}, "is not http(s)://HOST[:PORT]"),
        ({"url": "http://"}, "is not http(s)://HOST[:PORT]"),
        ({"url": "http://a:0"}, "is not http(s)://HOST[:PORT]"),
        ({"url": "http://a:99999"}, "is not http(s)://HOST[:PORT], a port 1 to 65535"),
        ({"url": "http://[::1"}, "is not http(s)://HOST[:PORT]"),
        ({"url": "http://a/path"}, "scheme, host and port only"),
        ({"url": "http://a?q"}, "scheme, host and port only"),
        ({"url": "http://u:p@a"}, "scheme, host and port only"),
        ({"purge_method": ""}, "is not an HTTP method"),
        ({"purge_method": "PUR GE"}, "is not an HTTP method"),
        ({"purge_method": "X\r\nY"}, "is not an HTTP method"),
        ({"purge_path": "purge"}, "must start with /"),
        ({"purge_path": "/purge/"}, "not end with it"),
        ({"purge_path": "/"}, "must start with /"),
        ({"purge_path": "/a b"}, "must start with /"),
        ({"rules_file": "/r"}, "rules_file is for plug-ins of ats; a varnish node has none"),
        ({"driver": "ats", "rules_file": "/r"}, "rules_file takes rules_state_file, too"),
        ({"driver": "ats", "rules_state_file": "/r"}, "rules_state_file takes rules_file, too"),
        ({**RULES, "rules_file": "r"}, "rules_file 'r' is no absolute path"),
        ({**RULES, "rules_file": "/state"}, "rules_state_file is another file than rules_file"),
        ({**RULES, "rules_url": "http://a/"}, "rules_url 'http://a/' is not how a URL begins behind remap"),
        ({**RULES, "rules_url": "http://{hosts}"}, "{host} is all that may be in braces"),
        ({**RULES, "rules_url": "http://{Host}"}, "{host} is all that may be in braces"),
        ({**RULES, "rules_url": "http://{{host}}"}, "{host} is all that may be in braces"),
        ({**RULES, "rules_file": "/my rules"}, "rules_file '/my rules' is no path for plugin.config"),
        ({**RULES, "rules_file": "/a\0b"}, "is no path for plugin.config"),
        ({**RULES, "rules_state_file": "/a#b"}, "rules_state_file '/a#b' is no path for plugin.config"),
        ({"rules_result": "miss"}, "rules_result is for plug-ins of ats; a varnish node has none"),
        ({"rules_keep_s": 600}, "rules_keep_s is for plug-ins of ats; a varnish node has none"),
        ({"driver": "ats", "rules_url": "http://{host}"}, "rules_url takes rules_file, too"),
        ({"driver": "ats", "rules_result": "miss"}, "rules_result takes rules_file, too"),
        ({**GENERATION, "generation_header": "Host"}, "generation_header 'Host' is set by the engine"),
        ({**GENERATION, "generation_header": "content-length"}, "is set by the engine"),
        ({**GENERATION, "generation_secret": "a b"}, "printable ASCII without spaces"),
        ({**RULES, "rules_keep_s": 60}, "rules_keep_s: 60 is out of range, 300 to 1.5768e+08"),
        ({**RULES, "rules_result": "hit"}, "takes stale, miss"),
        ({"driver": "ats", "generation_header": "X"}, "generation_header takes generation_secret, too"),
        ({**GENERATION, "generation_header": "X Y"}, "generation_header 'X Y' is not the name of a field"),
        ({**GENERATION, "generation_secret": "s\r\nX: y"}, "generation_secret is not the value of a field"),
        ({"wildcard": True}, "wildcard is nginx's; a varnish node has none"),
        (
            {"server_name": "www.a.com"},
            "server_name is for TLS, and 'http://127.0.0.1:6081' has none: give an",
        ),
        (
            {"prefetch_statuses": [404, 503]},
            "prefetch_statuses: 503 is no status that a cache keeps beside 2xx",
        ),
        (
            {"prefetch_statuses": [200]},
            "redirects and missing pages, such as [301, 404]; 300 to 499 without 304,",
        ),
        ({"prefetch_statuses": [304]}, "prefetch_statuses: 304 is no status that a cache keeps"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file '/nowhere/ca.pem' is not a file"),
        ({"headers": {"X Y": "z"}}, "is not a plain HTTP header"),
        ({"headers": {"X": "a\r\nb"}}, "is not a plain HTTP header"),
        ({"headers": {"Host": "a"}}, "is set by the engine"),
        ({"headers": {"content-length": "1"}}, "is set by the engine"),
        ({"headers": {"purgeline-Soft": "1"}}, "is set by the engine"),
        ({"headers": {"X-A": "1", "x-a": "1"}}, "header 'x-a' is there twice"),
        ({"requests_per_s": -1.0}, "requests_per_s: -1.0 is out of range, at least 0"),
        ({"requests_per_s": float("nan")}, "requests_per_s: nan is out of range"),
        ({"hit_ratio": 95.0}, "hit_ratio: 95.0 is out of range, 0 to 1: 0.95"),
        ({"layer": "edgy"}, "layer 'edgy' is no [[layer]]; did you mean 'edge'?"),
        ({"parents": ["gone"]}, "parent 'gone' is no [[node]]"),
        ({"parents": ["edge-1"]}, "which is not before 'edge'"),
    ],
)
def test_a_node_that_cannot_work_is_refused(extra: dict[str, Any], text: str) -> None:
    assert text in refusal({"node": [node(**extra)]})


def test_rules_make_no_misses_below_a_parent() -> None:
    below = node(**{**RULES, "name": "a", "rules_result": "miss"})
    tables = {"layer": [{"name": "p"}, {"name": "edge"}], "node": [node(layer="p"), below]}
    assert "rules_result miss is for a node without parents" in refusal(tables)
    assert parse({"node": [below]}).node[0].rules_result == "miss"


def test_misses_of_another_cache_are_about_its_driver_and_not_about_parents() -> None:
    tables = {
        "layer": [{"name": "p"}, {"name": "edge"}],
        "node": [node(layer="p"), node(name="a", rules_result="miss")],
    }
    assert "rules_result is for plug-ins of ats; a varnish node has none" in refusal(tables)


def test_rules_of_all_hosts_beside_tokens_of_some_sites_are_warned_of() -> None:
    auth = {"tokens": [{"name": "cms", "sha256": "0" * 64, "scopes": ["submit"], "sites": ["*.a.com"]}]}
    tables = {"site": [{"host": "*.a.com"}], "node": [node(**RULES)]}
    assert warnings_of(parse(tables)) == []
    (warning,) = warnings_of(parse({**tables, "auth": auth}))
    assert warning.startswith("node 'edge-1': rules_url has no {host}: ")
    kept = node(**RULES, rules_url="http://{host}")
    assert warnings_of(parse({**tables, "auth": auth, "node": [kept]})) == []


def test_two_nodes_of_one_file_of_rules_are_refused() -> None:
    other = {**RULES, "rules_file": "/others", "name": "edge-2"}
    assert "node 'edge-2': '/state' is 'edge-1''s, too" in refusal({"node": [node(**RULES), node(**other)]})


def test_a_parent_in_an_unknown_layer_is_a_configuration_error() -> None:
    table = {
        "layer": [{"name": "edge"}],
        "node": [node(parents=["p"]), node(name="p", layer="nope")],
    }
    assert "layer 'nope' is no [[layer]]" in refusal(table)


def test_a_parent_below_its_child_is_refused() -> None:
    table = {
        "layer": [{"name": "parent"}, {"name": "edge"}],
        "node": [node(), node(name="p", layer="parent", parents=["edge-1"])],
    }
    assert "parent 'edge-1' is in layer 'edge', which is not before 'parent'" in refusal(table)


def test_names_are_unique() -> None:
    assert "node 'edge-1' is there twice" in refusal({"node": [node(), node()]})
    assert "layer 'a' is there twice" in refusal({"layer": [{"name": "a"}, {"name": "a"}]})
    table = {"auth": {"tokens": [TOKEN, TOKEN]}, "site": [{"host": "*"}]}
    assert "token 't' is there twice" in refusal(table)


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"sha256": "x"}, "64 lower-case hex digits"),
        ({"sha256": SHA.upper()}, "64 lower-case hex digits"),
        ({"rate_per_s": -1}, "at least 0"),
        ({"rate_per_s": float("nan")}, "at least 0"),
        ({"burst_count": -1}, "at least 0"),
        ({"sites": ["*.*"]}, "is not a host rule"),
    ],
)
def test_a_token_that_cannot_work_is_refused(extra: dict[str, Any], text: str) -> None:
    assert text in refusal({"auth": {"tokens": [{**TOKEN, **extra}]}, "site": [{"host": "*"}]})


@pytest.mark.parametrize("rule", ["", "Example.com", "http://a", "*.", "*a.com", "a..b", "a/b", "a b", "**"])
@pytest.mark.parametrize("table", ["site", "callback"])
def test_a_host_rule_that_is_none_is_refused(table: str, rule: str) -> None:
    assert refusal({table: [{"host": rule}]}).startswith(f"{table}.host: {rule!r} is not a host rule")


@pytest.mark.parametrize("rule", ["example.com", "*.example.com", "*", "localhost", "127.0.0.1", "[::1]"])
def test_a_host_rule_is_taken(rule: str) -> None:
    assert parse({"site": [{"host": rule}]}).site[0].host == rule


@pytest.mark.parametrize("url", ["alerts", "ftp://a/", "http://", "http://[", "https:///x"])
def test_an_alert_url_that_is_none_is_refused(url: str) -> None:
    assert refusal({"alert": {"url": url}}).startswith("alert.url: ")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_alerts_repeat_after_a_number_of_seconds(value: float) -> None:
    assert refusal({"alert": {"repeat_s": value}}).startswith("alert.repeat_s: ")


@pytest.mark.parametrize("listen", ["0.0.0.0:9181", "192.0.2.1:80", "[::]:9181", "engine.example.com:80"])
def test_beyond_loopback_tokens_and_sites_are_needed(listen: str) -> None:
    assert "[[auth.tokens]] is needed" in refusal({"engine": {"listen": listen}})
    assert "[[auth.tokens]] is needed" in refusal({"engine": {"listen": listen}, "site": [{"host": "*"}]})
    assert "[[site]] is needed" in refusal({"engine": {"listen": listen}, "auth": {"tokens": [TOKEN]}})
    parse({"engine": {"listen": listen}, "auth": {"tokens": [TOKEN]}, "site": [{"host": "*"}]})


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_on_loopback_neither_is_needed_but_tokens_need_sites(listen: str) -> None:
    parse({"engine": {"listen": listen}})
    assert "[[site]] is needed" in refusal({"engine": {"listen": listen}, "auth": {"tokens": [TOKEN]}})


DOOR = {"kind": "purge", "listen": "127.0.0.1:9182"}
HTCP = {"kind": "htcp", "listen": "127.0.0.1:4827"}


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ({"kind": "purge"}, "required field `listen`"),
        ({"kind": "pruge", "listen": "127.0.0.1:1"}, "did you mean 'purge'?"),
        ({"listen": "127.0.0.1:1"}, "[door] kind: is needed"),
        ({**DOOR, "alow": []}, "did you mean 'allow'?"),
        ({**DOOR, "listen": "9182"}, "door.listen: '9182' is not HOST:PORT"),
        ({**DOOR, "listen": "127.0.0.1:9181"}, "every door has a port of its own"),
        ({**DOOR, "allow": ["10.0.0.1/8"]}, "it takes addresses and networks"),
        ({**DOOR, "secret_header": "X-Secret"}, "go together"),
        ({**DOOR, "secret_header": "X Secret", "secret_sha256": "0" * 64}, "is no name of a field"),
        ({**DOOR, "secret_header": "X-Secret", "secret_sha256": "secret"}, "64 lower-case hex digits"),
        ({**DOOR, "default_hosts": ["*.example.com"]}, "default_hosts: '*.example.com' is not a host"),
        ({**DOOR, "names": ["a b"]}, "names: 'a b' is not a name"),
        ({**DOOR, "wait_s": 61}, "out of range"),
        ({**DOOR, "token": "csm"}, "is no [[auth.tokens]]"),
        ({**DOOR, "listen": "0.0.0.0:9182"}, "allow or secret_header is needed"),
        ({**DOOR, "listen": "0.0.0.0:9182", "allow": ["10.0.0.0/8"]}, "needs a token"),
        ({**HTCP, "secret_header": "X"}, "unknown key 'secret_header'"),
        ({**HTCP, "allow": ["x"]}, "it takes addresses and networks"),
        ({**HTCP, "wait_s": 0}, "wait_s: 0 is out of range"),
        ({**HTCP, "clock_skew_s": 301}, "clock_skew_s: 301 is out of range, 0 to 300"),
        ({**HTCP, "receive_buffer_bytes": 1}, "receive_buffer_bytes: 1 is out of range"),
        ({**HTCP, "groups": ["10.0.0.1"]}, "'10.0.0.1' is no multicast group, such as 239.128.0.112"),
        ({**HTCP, "groups": ["239.1.1.1"]}, "takes a listen on every address, '0.0.0.0'"),
        ({**HTCP, "listen": "0.0.0.0:4827"}, "allow or key_file is needed"),
        ({**HTCP, "listen": "0.0.0.0:4827", "key_file": "/k"}, "needs a token"),
    ],
)
def test_a_door_that_cannot_be_opened_or_that_anybody_could_purge_through_is_refused(
    door: dict[str, object], says: str
) -> None:
    assert says in refusal({"door": [door]})


def test_a_door_needs_a_token_where_there_are_any_and_one_that_may_submit() -> None:
    own = {"auth": {"tokens": [TOKEN]}, "site": [{"host": "*"}]}
    assert "token is needed" in refusal({**own, "door": [DOOR]})
    reader = {"auth": {"tokens": [{**TOKEN, "scopes": ["read"]}]}, "site": [{"host": "*"}]}
    assert "has not the scope 'submit'" in refusal({**reader, "door": [{**DOOR, "token": TOKEN["name"]}]})
    parse({**own, "door": [{**DOOR, "token": TOKEN["name"], "listen": "0.0.0.0:1", "allow": ["10.0.0.0/8"]}]})
    parse({"door": [DOOR, {**DOOR, "listen": "[::1]:9182"}]})
    parse({"door": [DOOR, {**HTCP, "listen": DOOR["listen"]}]})  # TCP and UDP
    assert "that of door" in refusal({"door": [DOOR, DOOR]})


CDNI: dict[str, object] = {"kind": "cdni", "listen": "127.0.0.1:9183", "cdn_id": "AS64496:0"}


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ({"cdn_id": ""}, "cdn_id: '' is no CDN Provider ID, such as AS64496:0"),
        ({"cdn_id": "64496"}, "'64496' is no CDN Provider ID"),
        ({"cdn": "AS64496:0"}, "did you mean 'cdn_id'?"),
        ({"version": 2}, "unknown key 'version'"),
        ({"token": "ucdn"}, "takes the token, or the certificate, that each client has"),
        ({"listen": "0.0.0.0:9183"}, "its clients need [[auth.tokens]]"),
        ({"url": "https://dcdn.example.com/triggers"}, "the path is /triggers"),
        ({"stale_resource_s": 0}, "stale_resource_s: 0 is out of range"),
        ({"default_hosts": ["*.example.com"]}, "default_hosts"),
        ({"allow": ["x"]}, "allow"),
        ({"key_file": "k"}, "take a cert_file"),
        ({"client_ca_file": "k"}, "take a cert_file"),
        ({"certificates": {"a": "b"}}, "takes a client_ca_file"),
        (
            {"cert_file": "c", "client_ca_file": "d", "certificates": {"a": "b"}},
            "'b' is no [[auth.tokens]]",
        ),
    ],
)
def test_a_cdni_door_whose_clients_nobody_could_tell_apart_is_refused(
    door: dict[str, object], says: str
) -> None:
    assert says in refusal({"door": [{**CDNI, **door}]})


def test_clients_of_a_cdni_door_may_have_certificates() -> None:
    tls = {"cert_file": "c", "client_ca_file": "d", "certificates": {"ucdn.example.com": str(TOKEN["name"])}}
    parse({"auth": {"tokens": [TOKEN]}, "site": [{"host": "*"}], "door": [{**CDNI, **tls}]})
    parse({"door": [CDNI]})


BUS = {"kind": "redis", "url": "redis://127.0.0.1/0", "streams": ["purges"]}


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ({"kind": "redis"}, "required field `url`"),
        ({**BUS, "stream": "a"}, "did you mean 'streams'?"),
        ({**BUS, "listen": "127.0.0.1:1"}, "unknown key 'listen'"),
        (
            {**BUS, "url": "redis://u:secret@h:port"},
            "door 'redis://***@h:***': url: server 1 is not HOST[:PORT]",
        ),
        ({**BUS, "url": "redis://a,b/0"}, "one server"),
        ({**BUS, "streams": []}, "streams or channels is needed"),
        ({**BUS, "streams": ["a", "a"]}, "streams: a name is there twice"),
        ({**BUS, "streams": ["a b"]}, "streams: 'a b': takes 1-200 visible"),
        ({**BUS, "channels": ["varnish.*"]}, "takes names of channels, no patterns"),
        ({**BUS, "group": ""}, "group: takes 1-200"),
        ({**BUS, "start": "1"}, "takes $, 0"),
        ({**BUS, "poison": "purges"}, "is one of the streams"),
        ({**BUS, "default_hosts": ["a/b"]}, "'a/b' is not a host"),
        ({**BUS, "takeover_s": 0}, "takeover_s: 0.0 is out of range, at least 1"),
        ({**BUS, "max_age_s": -1}, "out of range"),
        ({**BUS, "max_age_s": float("nan")}, "out of range"),
        ({**BUS, "poison_max": 0}, "out of range"),
        ({**BUS, "token": "csm"}, "is no [[auth.tokens]]"),
        ({**BUS, "url": "redis://bus.example.com"}, "is not loopback, so it needs a token"),
        ({**BUS, "url": "redis+sentinel://127.0.0.1,10.0.0.1/m"}, "is not loopback"),
    ],
)
def test_a_door_that_reads_a_redis_and_cannot_is_refused(door: dict[str, object], says: str) -> None:
    assert says in refusal({"door": [door]})


def test_what_one_door_reads_no_other_does() -> None:
    other = {**BUS, "streams": ["others"], "channels": ["c"]}
    parse({"door": [BUS, other, {**BUS, "group": "second"}, DOOR]})
    assert "stream purges of group purgeline is read by another door already" in refusal({"door": [BUS, BUS]})
    assert "channel c is read" in refusal({"door": [other, {**other, "streams": []}]})


def overridden(tmp_path: Path, text: str = "", **environ: str) -> Config:
    path = tmp_path / "engine.toml"
    path.write_text(text)
    return load(path, {f"PURGELINE_{name}": value for name, value in environ.items()})


def test_the_environment_overrides_the_file_with_the_keys_type(tmp_path: Path) -> None:
    config = overridden(
        tmp_path,
        "[engine]\nlisten = '127.0.0.1:1'\nregion_count = 2\n",
        ENGINE__LISTEN="127.0.0.1:2",
        ENGINE__DUE_S="1.5",
        ENGINE__LOG_SUBTASKS="true",
        ENGINE__SAVER_COUNT="3",
        ALERT__URL="http://alerts.example/",
        STORE__URL="sqlite:",
        HOME="/ignored",
        ENGINE_SERVICE_HOST="10.0.0.1",
    )
    assert config.engine.listen == "127.0.0.1:2"
    assert config.engine.region_count == 2
    assert (config.engine.due_s, config.engine.log_subtasks, config.engine.saver_count) == (1.5, True, 3)
    assert config.alert.url == "http://alerts.example/"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ENGINE__LISEN", "x", "unknown key 'lisen'; did you mean 'listen'?"),
        ("NODE__URL", "x", "no table [node]; known: engine, store, alert"),
        ("ENGINE__DUE_S", "soon", "expected `float`, got `str`"),
        ("STORE", "redis://a", "takes two underscores behind the table, such as PURGELINE_STORE__URL"),
        ("STORE_URL", "redis://a", "such as PURGELINE_STORE__URL"),
        ("ENGINE_LISTEN", "127.0.0.1:1", "such as PURGELINE_ENGINE__LISTEN"),
        ("ENGINE__LOG_FORMAT", "vanish", "invalid enum value 'vanish'; takes struct, dict, text"),
    ],
)
def test_a_wrong_override_names_its_variable(tmp_path: Path, name: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(tmp_path, **{name: value})
    assert f"environment PURGELINE_{name}: " in str(caught.value)
    assert text in str(caught.value)


def test_an_override_is_checked_like_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.region_count: 0 is out of range"):
        overridden(tmp_path, ENGINE__REGION_COUNT="0")
    with pytest.raises(ConfigError, match=r"engine must be a table"):
        overridden(tmp_path, "engine = 1\n", ENGINE__REGION_COUNT="1")


def test_the_processs_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURGELINE_ENGINE__REGION_COUNT", "7")
    (tmp_path / "engine.toml").write_text("")
    assert load(tmp_path / "engine.toml").engine.region_count == 7
