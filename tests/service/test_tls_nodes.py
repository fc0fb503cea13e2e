"""Nodes behind TLS whose url is an address and whose certificate is for a name: Varnish behind nginx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release.lab import caches
from release.lab.caches import Cache, free_port
from release.lab.caches.process import find_binary
from tests.fakes.certificate import make_certificate
from tests.rigs.engine_process import EngineProcess, get_body, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from release.lab.origin import Origin

HOST = "img.example.com"
_FRONT = """\
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
    server {{ # whoever names no name, or another one
        listen 127.0.0.1:{port} ssl default_server;
        ssl_certificate other.pem;
        ssl_certificate_key other.key;
        return 421;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name edge.test {host} purgeline-probe.invalid; # by SNI, and by Host
        ssl_certificate edge.pem;
        ssl_certificate_key edge.key;
        location / {{
            proxy_pass http://{backend};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


def front(folder: Path, backend: str) -> Cache:
    """Return an nginx that ends TLS before *backend*, for the name edge.test alone; it is not started."""
    port = free_port()
    argv = [find_binary("nginx") or "nginx", "-p", "/proc/self/cwd/", "-c", "nginx.conf", "-e", "stderr"]
    cache = Cache(folder, name="front", driver="nginx", argv=argv, port=port)
    files = {"nginx.conf": _FRONT.format(port=port, backend=backend, host=HOST)}
    for name in ("edge", "other"):
        make_certificate(folder, name, host=f"{name}.test")
        files |= {f"{name}.{end}": (folder / f"{name}.{end}").read_text() for end in ("pem", "key")}
    cache.write(files, directories=("tmp",))
    return cache


def test_a_node_at_an_address_is_asked_for_its_name(origin: Origin, tmp_path: Path) -> None:
    """Its certificate is that name's; without ``server_name`` the node has no connection, and says why."""
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        front(tmp_path, cache.address) as tls,
    ):
        place = {"url": f"https://127.0.0.1:{tls.port}", "ca_file": str(tmp_path / "edge.pem")}
        tables = node_table(cache, name="edge-1", server_name="edge.test", **place)
        tables += node_table(cache, name="edge-2", **place)
        with EngineProcess(tmp_path, tables) as engine:
            assert get_body(cache, "/a").startswith(b"v1 ")
            origin.version = "v2"
            task = engine.wait_for(engine.submit([f"http://{HOST}/a"], nodes=["edge-1"]))
            assert (task["state"], task["errors"]) == ("done", [])
            assert get_body(cache, "/a").startswith(b"v2 ")
            engine.submit([f"http://{HOST}/a"], nodes=["edge-2"], due_s=0.2)
            wait_until(lambda: engine.node("edge-2")["state"] == "down", what="the node without the name")
            assert "certificate verify failed" in engine.node("edge-2")["last_error"]
