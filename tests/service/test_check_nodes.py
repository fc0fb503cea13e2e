"""`purgeline check-nodes` and `purgeline render`, on real caches: as they are without purging, and as told.

A configuration that works for visitors is started as it is. `check-nodes` says what is wrong with it; with
the lines of `render` pasted where these say, the same configuration is proven.
"""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.base.templates import render
from engine.cli.main import main
from release.lab.caches import Cache, free_port
from release.lab.caches.process import find_binary
from release.lab.caches.servers import NGINX_MODULE, NGINX_MODULE_DIRS, VARNISH_QUICK
from release.lab.origin import Origin
from tests.rigs.engine_process import get_body, node_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "img.example.com"
ENGINES = ("--from", "127.0.0.0/30")
DRIVERS = ("varnish", "nginx", "ats", "squid")

VCL = """\
vcl 4.1;
{fragment}
import std;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{
    std.log("mine");
}}
sub vcl_deliver {{
    set resp.http.X-Mine = "1";
}}
"""
NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    proxy_cache_path cache keys_zone=mine:1m;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_set_header Host $host;
            proxy_cache mine;
            {location}
        }}
    }}
}}
"""
SQUID = """\
http_port 127.0.0.1:{port} accel vhost
cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest no-netdb-exchange originserver name=origin
never_direct allow all
{fragment}
http_access allow all
cache_mem 16 MB
visible_hostname mine
pid_filename none
cache_log /proc/self/cwd/cache.log
access_log none
netdb_filename none
pinger_enable off
coredump_dir /proc/self/cwd
shutdown_lifetime 0 seconds
"""


EVERYBODY = """\
ip_allow:
  - apply: in
    ip_addrs: [0/0, ::/0]
    action: allow
    methods: ALL
"""
SHUT_OUT = "127.0.0.66"
SOME = f"""\
ip_allow:
{{fragment}}
  - apply: in
    ip_addrs: {SHUT_OUT}
    action: deny
    methods: [GET, PURGE]
  - apply: in
    ip_addrs: [0/0, ::/0]
    action: deny
    methods: [PURGE, PUSH, DELETE, TRACE]
"""


def parts_of(fragment: str) -> list[str]:
    """Return the lines of each part of a fragment; the comments say where it goes."""
    parts: list[str] = []
    for line in fragment.splitlines():
        if line.startswith("# ==> "):
            if not parts or parts[-1].strip():
                parts.append("")
        else:
            parts[-1] += line + "\n"
    return parts


def varnish(folder: Path, name: str, origin: Origin, fragment: str) -> Cache:
    port = free_port()
    argv = [
        *(str(find_binary("varnishd")), "-F", "-j", "none", "-T", "none", "-n", "/proc/self/cwd"),
        *("-f", "/proc/self/cwd/mine.vcl", "-a", f"127.0.0.1:{port}", "-s", "default=malloc,16m"),
        *("-p", "thread_pool_min=25", *VARNISH_QUICK),
    ]
    cache = Cache(folder, name=name, driver="varnish", argv=argv, port=port)
    cache.write({"mine.vcl": VCL.format(fragment=fragment, origin=origin.port)})  # as an include reads it
    return cache


def nginx(folder: Path, name: str, origin: Origin, fragment: str) -> Cache:
    port = free_port()
    modules = (Path(each) / NGINX_MODULE for each in NGINX_MODULE_DIRS)
    http, server, location = parts_of(fragment) if fragment else ("", "", "")
    text = NGINX.format(
        module=next(path for path in modules if path.is_file()),
        port=port,
        origin=origin.port,
        http=http,
        server=server.replace("YOUR-KEYS-ZONE", "mine"),
        location=location,
    )
    argv = [str(find_binary("nginx")), "-p", "/proc/self/cwd/", "-c", "nginx.conf", "-e", "stderr"]
    cache = Cache(folder, name=name, driver="nginx", argv=argv, port=port)
    cache.write({"nginx.conf": text}, directories=("cache", "tmp"))
    return cache


def ats(folder: Path, name: str, origin: Origin, fragment: str) -> Cache:
    port = free_port()
    binary = str(find_binary("traffic_server"))
    settings: dict[str, Any] = {
        "port": port,
        "address": "127.0.0.1",
        "is_lab": True,
        "backend": origin.address,
        "hosts": [],
        "canary": None,
        "generation": None,
        "default_ttl_s": 3600,
        "storage_mb": 16,
        "prefix": str(Path(binary).parents[1]),
    }
    names = ("records.config", "remap.config", "storage.config")
    files = {f"conf/{each}": render(f"ats/{each}.j2", **settings) for each in names}
    files["runroot.yaml"] = render("ats/runroot.yaml.j2", **settings)
    if fragment:
        plugin, rules, allowed, *_ = parts_of(fragment)
        files |= {"conf/plugin.config": plugin, "conf/purgeline.config": rules}
        files["conf/ip_allow.yaml"] = SOME.format(fragment=allowed)
    else:
        files["conf/records.config"] += "CONFIG proxy.config.http.cache.http INT 0\n"
        files["conf/ip_allow.yaml"] = EVERYBODY
    argv = [binary, "--run-root=/proc/self/cwd/runroot.yaml"]
    cache = Cache(folder, name=name, driver="ats", argv=argv, port=port)
    cache.write(files, directories=("cache", "log", "run"))
    return cache


def squid(folder: Path, name: str, origin: Origin, fragment: str) -> Cache:
    port = free_port()
    service = f"purgeline{port}"
    leftovers = [f"/dev/shm/{service}-cf__{part}.shm" for part in ("metadata", "queues", "readers")]
    argv = [str(find_binary("squid")), "-N", "-n", service, "-f", "/proc/self/cwd/squid.conf"]
    cache = Cache(folder, name=name, driver="squid", argv=argv, port=port, leftovers=leftovers)
    cache.write({"squid.conf": SQUID.format(port=port, origin=origin.port, fragment=fragment)})
    return cache


MAKERS: dict[str, Callable[[Path, str, Origin, str], Cache]] = {
    "varnish": varnish,
    "nginx": nginx,
    "ats": ats,
    "squid": squid,
}


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def started(folder: Path, origin: Origin, fragment_of: Callable[[str], str]) -> list[Cache]:
    caches = []
    for driver in DRIVERS:
        cache = MAKERS[driver](folder, f"{driver}-1", origin, fragment_of(driver))
        cache.start()
        caches.append(cache)
    return caches


def config_of(folder: Path, caches: list[Cache]) -> Path:
    path = folder / "engine.toml"
    plugin = {"ats": {"generation_header": "X-Generation", "generation_secret": "s3cret"}}
    tables = (node_table(cache, name=cache.name, **plugin.get(cache.driver, {})) for cache in caches)
    path.write_text("".join(tables))
    return path


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Path]:
    """Caches that nobody told about purges; the configuration of an engine that has them."""
    folder = tmp_path_factory.mktemp("without")
    caches = started(folder, origin, lambda _: "")
    yield config_of(folder, caches)
    for cache in caches:
        cache.stop()


def said(capsys: pytest.CaptureFixture[str], *args: object, code: int = 0) -> str:
    assert main([str(arg) for arg in args]) == code
    return capsys.readouterr().out


def test_caches_that_were_not_told_about_purges_are_found_out(
    without: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in its own way; the lines to paste follow, those of each driver."""
    printed = said(capsys, "check-nodes", "--config", without, code=1)
    table, *changes = printed.split("\n# ==> ")
    rows = [line.split("\t") for line in table.splitlines() if "\t" in line]
    assert [row[:3] for row in rows] == [
        ["varnish-1", "varnish", "forwarded"],
        ["nginx-1", "nginx", "forwarded"],
        ["ats-1", "ats", "forwarded"],
        ["squid-1", "squid", "refused"],
    ]
    assert "passed on" in rows[0][3]
    assert "403" in rows[3][3]
    assert "Vary" in rows[1][4]
    assert "purges by prefix, regex and host (rules_file, generation_header) were not tried" in rows[2][4]
    assert "--header=X-Generation --secret=" in printed.replace(" @pparam=", " ")
    assert "s3cret" not in printed
    assert "\n# squid-1 (squid): let the engine's address in" in printed
    for driver in DRIVERS:
        assert f"{driver} {driver}-1" in "".join(changes)


def test_the_lines_that_are_told_make_them_proven(
    without: Path, tmp_path: Path, origin: Origin, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted into the very same configurations; visitors are served as before, and a purge purges."""
    document = json.loads(said(capsys, "check-nodes", "--config", without, "--json", *ENGINES, code=1))
    lines = {node["driver"]: node["lines"] for node in document["nodes"]}
    assert lines["nginx"] == said(
        capsys, "render", "nginx", "--node", "nginx-1", "--config", without, *ENGINES
    )
    caches = started(tmp_path, origin, lines.__getitem__)
    try:
        printed = said(capsys, "check-nodes", "--config", config_of(tmp_path, caches))
        rows = [line.split("\t") for line in printed.splitlines()]
        assert [row[:3] for row in rows] == [[f"{driver}-1", driver, "proven"] for driver in DRIVERS]
        assert {row[3] for row in rows} == {
            "its answer bears its mark, and repeats what was sent with the purge"
        }
        assert {get_body(cache, "/a", host=HOST) for cache in caches} == {b"v1 img.example.com/a"}
        (told,) = (cache for cache in caches if cache.driver == "ats")
        assert [status_from(SHUT_OUT, told, method) for method in ("GET", "PURGE")] == [403, 403]
        assert [status_from("127.0.0.67", told, method) for method in ("GET", "PURGE")] == [200, 403]
    finally:
        for cache in caches:
            cache.stop()


def status_from(address: str, cache: Cache, method: str) -> int:
    """Return what the cache answers to a client of another address."""
    connection = HTTPConnection("127.0.0.1", cache.port, timeout=10, source_address=(address, 0))
    with closing(connection):
        connection.request(method, "/a", headers={"Host": HOST})
        return connection.getresponse().status


def test_a_node_under_another_name_is_not_proven(
    without: Path, tmp_path: Path, origin: Origin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mark is another node's: the purge may have gone on to that one."""
    fragment = said(capsys, "render", "varnish", "--node", "parent-1")
    cache = varnish(tmp_path, "edge-1", origin, fragment)
    with cache:
        cache.start()
        printed = said(capsys, "check-nodes", "--config", config_of(tmp_path, [cache]), code=1)
    assert "edge-1\tvarnish\tforwarded\tthe answer (200) bears the mark 'varnish parent-1'" in printed
    assert "varnish edge-1" in printed


def test_a_node_that_cannot_be_reached_is_told_apart(
    without: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, whatever the others say."""
    path = tmp_path / "engine.toml"
    away = f'[[node]]\nname = "away"\ndriver = "varnish"\nurl = "http://127.0.0.1:{free_port()}"\n'
    path.write_text(away + without.read_text())
    printed = said(capsys, "check-nodes", "--config", path, "--node", "away", "--node", "squid-1", code=3)
    assert [line.split("\t")[:3] for line in printed.splitlines() if "\t" in line] == [
        ["away", "varnish", "unreachable"],
        ["squid-1", "squid", "refused"],
    ]
