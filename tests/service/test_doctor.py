"""`purgeline doctor` on an engine in a network of its own: each fault is made, told, and gone again."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from release.lab.caches import free_port
from release.lab.caches.process import find_binary
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.examined import examined, examined_by
from tests.rigs.own_network import own_network, setting, track
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 8
NGINX = """\
daemon off; master_process off; error_log {folder}/error.log; pid {folder}/pid;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream engine {{ server 127.0.0.1:{engine}; {upstream} }}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://engine; {location} }} }}
}}
"""


class Site(NamedTuple):
    """An engine, one cache, and their network."""

    engine: EngineProcess
    node: FakeNode


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An engine whose socket was opened while somaxconn was small."""
    folder = tmp_path_factory.mktemp("doctor")
    with own_network(), setting("net.core.somaxconn", BACKLOG), FakeNode() as node:
        table = fake_table(node.url, name="edge-1")
        with EngineProcess(folder, table, is_forked=False, connections_max=100) as engine:
            yield Site(engine, node)


def test_an_engine_in_order_but_for_its_backlog(site: Site) -> None:
    found = examined(site.engine.config_path)
    with setting("net.ipv4.tcp_tw_reuse", 1):
        settled = examined(site.engine.config_path)
    names = ("open_files", "conntrack", "time_wait", "ports", "tw_reuse", "engine", "versions", "nodes")
    assert found.verdicts(*names) == settled.verdicts(*names) == ["ok"] * len(names)
    assert found.verdicts("clock_offset") == ["not known"]
    assert "redis_eviction" not in found.rows


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nginx(folder: Path, engine: int, *, upstream: str = "", location: str = "") -> Iterator[HTTPConnection]:
    """A connection to an nginx in front of the engine."""
    folder.mkdir()
    port = free_port()
    config = NGINX.format(folder=folder, engine=engine, port=port, upstream=upstream, location=location)
    (folder / "nginx.conf").write_text(config)
    program = find_binary("nginx")
    assert program
    with subprocess.Popen([program, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL) as process:
        try:
            client = HTTPConnection("127.0.0.1", port, timeout=10)
            wait_until(lambda: (folder / "pid").exists() and is_open(port), what="nginx")
            with contextlib.closing(client):
                yield client
        finally:
            process.terminate()


def test_an_nginx_in_front_that_keeps_no_connection(site: Site, tmp_path: Path) -> None:
    """One that keeps them is in order, and there is none as long as no client has come."""

    def ask(client: HTTPConnection) -> None:
        for _ in range(80):
            client.request("GET", "/healthz")
            assert client.getresponse().read()

    keeping = 'proxy_http_version 1.1; proxy_set_header Connection "";'
    with nginx(tmp_path / "keeps", site.engine.port, upstream="keepalive 8;", location=keeping) as client:
        ask(client)
        kept = examined(site.engine.config_path).rows["keep_alive"]
    with nginx(tmp_path / "closes", site.engine.port) as client:
        ask(client)
        lost = examined(site.engine.config_path).rows["keep_alive"]
    assert kept["verdict"] == "ok", kept
    assert lost["verdict"] == "warn", lost
    assert "with 127.0.0.1" in lost["reason"]
    assert "engine.nginx" in lost["remedy"]


def test_a_backlog_that_the_kernel_cuts(site: Site) -> None:
    """Also after the limit was raised: the socket keeps the one of its start."""
    before = examined(site.engine.config_path).rows["somaxconn"]
    assert (before["verdict"], before["value"], before["limit"]) == ("warn", str(BACKLOG), "4096")
    assert "engine.tuning" in before["remedy"]
    with setting("net.core.somaxconn", 4096):
        after = examined(site.engine.config_path).rows["somaxconn"]
    assert (after["verdict"], after["value"]) == ("warn", f"{BACKLOG} of the socket")
    assert "start the engine again" in after["remedy"]


def test_connections_that_are_dropped_at_a_full_backlog(site: Site) -> None:
    """While the engine stands still, and from then on as what has been."""
    assert examined(site.engine.config_path).verdicts("listen_drops") == ["ok"]
    os.kill(site.engine.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as opened:
        for _ in range(3 * BACKLOG):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", site.engine.port))
        found = examined(site.engine.config_path, "--timeout", "0.2")
        os.kill(site.engine.pid, signal.SIGCONT)
    assert found.verdicts("listen_drops", "engine") == ["fail", "not known"]
    assert found.code == 1
    wait_until(lambda: site.engine.request("GET", "/readyz")[0] == 200, what="the engine")
    later = examined(site.engine.config_path).rows["listen_drops"]
    assert later["verdict"] == "warn"
    assert int(later["value"].split()[0]) > 0


def test_few_open_files(site: Site) -> None:
    pid = site.engine.pid
    kept = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    said = {}
    try:
        for limit in (100, 200):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, kept[1]))
            said[limit] = examined(site.engine.config_path).rows["open_files"]
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, kept[1]))
        full = examined(site.engine.config_path).rows["open_files"]
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, kept)
    assert [row["verdict"] for row in said.values()] == ["fail", "warn"]
    assert "may take" in said[100]["reason"]
    assert said[200]["value"].startswith("200, ")
    assert (full["verdict"], f"process {pid} has nearly all" in full["reason"]) == ("fail", True)
    assert examined(site.engine.config_path).verdicts("open_files") == ["ok"]


def test_all_ports_to_one_address_taken(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as opened:
        port = server.getsockname()[1]
        with setting("net.ipv4.ip_local_port_range", "40000 40019"):
            for _ in range(20):
                opened.enter_context(socket.create_connection(server.getsockname(), 10))
                opened.enter_context(server.accept()[0])  # or its own backlog is full
            with socket.socket() as one_more:
                assert one_more.connect_ex(server.getsockname()) == errno.EADDRNOTAVAIL
            full = examined(site.engine.config_path).rows["ports"]
        with setting("net.ipv4.ip_local_port_range", "40100 40109"):
            few = examined(site.engine.config_path).rows["ports"]
        ample = examined(site.engine.config_path).rows["ports"]
    assert (full["verdict"], full["limit"]) == ("fail", "20")
    assert full["value"] == f"20 to 127.0.0.1:{port}"
    assert (few["verdict"], few["limit"]) == ("fail", "10")
    assert "up to 13 connections to one cache" in few["reason"]
    assert ample["verdict"] == "ok"


def test_time_wait_beyond_what_the_kernel_keeps(site: Site) -> None:
    with setting("net.ipv4.tcp_max_tw_buckets", 5), socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(8):
            with socket.create_connection(server.getsockname()):
                taken, _ = server.accept()
            taken.close()
        full = examined(site.engine.config_path).rows["time_wait"]
    after = examined(site.engine.config_path).rows["time_wait"]
    assert (full["verdict"], full["limit"]) == ("fail", "5")
    assert after["verdict"] == "warn"
    assert "were cut short since the start" in after["reason"]


def test_ports_in_time_wait_that_are_not_taken_again(site: Site, tmp_path: Path) -> None:
    """2, which kernels begin with, is for loopback alone."""
    with setting("net.ipv4.tcp_tw_reuse", 0):
        assert examined(site.engine.config_path).verdicts("tw_reuse") == ["warn"]
    with setting("net.ipv4.tcp_timestamps", 0):
        stamps = examined(site.engine.config_path).rows["tw_reuse"]
    assert (stamps["verdict"], "time stamps" in stamps["reason"]) == ("warn", True)
    elsewhere = tmp_path / "engine.toml"
    elsewhere.write_text(site.engine.config_path.read_text().replace(site.node.url, "http://192.0.2.1:80"))
    with setting("net.ipv4.tcp_tw_reuse", 2):
        found = examined(elsewhere)
    assert found.verdicts("tw_reuse", "nodes", "node edge-1") == ["warn", "fail", "fail"]
    assert found.rows["node edge-1"]["value"] == "unreachable"
    with setting("net.ipv4.tcp_tw_reuse", 1):
        assert examined(elsewhere).verdicts("tw_reuse") == ["ok"]


def test_a_full_table_of_tracked_connections(site: Site, tmp_path: Path) -> None:
    """The connections are tracked; their limit, which all networks of a machine share, is a file over it."""
    most = tmp_path / "nf_conntrack_max"
    most.write_text("8\n")
    track(7)
    mount = 'mount --bind "$0" /proc/sys/net/netfilter/nf_conntrack_max && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mount, str(most)]
    near = examined_by(site.engine.config_path, prefix=prefix).rows["conntrack"]
    assert (near["verdict"], near["value"], near["limit"]) == ("warn", "7 tracked", "8")
    assert "engine.tuning" in near["remedy"]
    most.write_text("7\n")
    assert examined_by(site.engine.config_path, prefix=prefix).verdicts("conntrack") == ["fail"]
    assert examined(site.engine.config_path).rows["conntrack"]["value"] == "7 tracked"


def test_a_node_that_answers_and_proves_nothing(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "engine.toml"
    config.write_text(site.engine.config_path.read_text().replace('evidence = "any"\n', ""))
    found = examined(config)
    assert found.verdicts("nodes", "node edge-1") == ["fail", "fail"]
    assert found.rows["node edge-1"]["value"] in {"unproven", "forwarded"}
    assert found.rows["node edge-1"]["remedy"].endswith(f"check-nodes --config {config} --node edge-1")
