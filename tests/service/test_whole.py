"""What ``purgeline render CACHE --whole`` writes, run by the cache: all addresses, IPv6 too, two backends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.base.templates import render
from engine.cli.main import main
from release.lab.caches import Cache, free_port
from release.lab.caches.process import find_binary
from release.lab.caches.servers import NGINX_MODULE, NGINX_MODULE_DIRS, VARNISH_QUICK
from release.lab.origin import Origin
from tests.fakes.certificate import make_certificate
from tests.rigs.engine_process import get_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "img.example.com"
NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    include purgeline.conf;
}}
"""
SQUID = """\
pid_filename none
cache_log /proc/self/cwd/cache.log
access_log none
netdb_filename none
pinger_enable off
coredump_dir /proc/self/cwd
shutdown_lifetime 0 seconds
"""


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    with Origin() as one, Origin() as two:
        yield one, two


def varnish(folder: Path, files: dict[str, str], port: int) -> Cache:
    argv = [
        *(str(find_binary("varnishd")), "-F", "-j", "none", "-T", "none", "-n", "/proc/self/cwd"),
        *("-f", "/proc/self/cwd/default.vcl", "-a", f":{port}", "-s", "default=malloc,16m"),
        *("-p", "thread_pool_min=25", *VARNISH_QUICK),
    ]
    cache = Cache(folder, name="n", driver="varnish", argv=argv, port=port)
    cache.write(files)
    return cache


def nginx(folder: Path, files: dict[str, str], port: int) -> Cache:
    modules = (Path(each) / NGINX_MODULE for each in NGINX_MODULE_DIRS)
    files["purgeline.conf"] = files["purgeline.conf"].replace("/var/cache/purgeline", "objects")
    files["nginx.conf"] = NGINX.format(module=next(each for each in modules if each.is_file()))
    argv = [str(find_binary("nginx")), "-p", "/proc/self/cwd/", "-c", "nginx.conf", "-e", "stderr"]
    cache = Cache(folder, name="n", driver="nginx", argv=argv, port=port, purge_path="/purge")
    cache.write(files, directories=("tmp",))
    return cache


def squid(folder: Path, files: dict[str, str], port: int) -> Cache:
    service = f"purgeline{port}"
    leftovers = [f"/dev/shm/{service}-cf__{part}.shm" for part in ("metadata", "queues", "readers")]
    argv = [str(find_binary("squid")), "-N", "-n", service, "-f", "/proc/self/cwd/squid.conf"]
    cache = Cache(folder, name="n", driver="squid", argv=argv, port=port, leftovers=leftovers)
    cache.write({"squid.conf": files["squid.conf"] + SQUID})
    return cache


def ats(folder: Path, files: dict[str, str], port: int) -> Cache:
    binary = str(find_binary("traffic_server"))
    argv = [binary, "--run-root=/proc/self/cwd/runroot.yaml"]
    cache = Cache(folder, name="n", driver="ats", argv=argv, port=port)
    conf = {f"conf/{name}": text for name, text in files.items()}
    conf["conf/storage.config"] = render("ats/storage.config.j2", storage_mb=16)
    conf["runroot.yaml"] = render("ats/runroot.yaml.j2", prefix=str(Path(binary).parents[1]))
    cache.write(conf, directories=("cache", "log", "run"))
    return cache


MAKERS: dict[str, Callable[[Path, dict[str, str], int], Cache]] = {
    "varnish": varnish,
    "nginx": nginx,
    "squid": squid,
    "ats": ats,
}


def verdict(
    driver: str, url: str, folder: Path, capsys: pytest.CaptureFixture[str], *, name: str = "n"
) -> str:
    config = folder / "engine.toml"
    ca = f'ca_file = "{folder}/n.pem"\n' if url.startswith("https") else ""
    config.write_text(f'[[node]]\nname = "{name}"\ndriver = "{driver}"\nurl = "{url}"\n{ca}')
    main(["check-nodes", "--config", str(config)])
    return capsys.readouterr().out.split("\t")[2]


@pytest.mark.parametrize("driver", MAKERS)
def test_a_cache_made_of_nothing_else_is_proven(
    driver: str, tmp_path: Path, origins: tuple[Origin, Origin], capsys: pytest.CaptureFixture[str]
) -> None:
    """By an engine on another address family than its visitors; those may not purge.

    What comes without Cache-Control is kept, also when it has Last-Modified.
    """
    for origin in origins:
        headers = {"Cache-Control": "", "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
        origin.set(HOST, "/0", b"page", headers=headers)
    port = free_port()
    behind = origins if driver != "ats" else origins[:1]
    backends = [word for origin in behind for word in ("--backend", origin.address)]
    words = ("--whole", "--node", "n", "--from", "::1", "--port", str(port), "--to", str(tmp_path / "made"))
    assert main(["render", driver, *words, *backends]) == 0
    files = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    with MAKERS[driver](tmp_path, files, port) as cache:
        assert verdict(driver, f"http://[::1]:{port}", tmp_path, capsys) == "proven"
        assert verdict(driver, f"http://127.0.0.1:{port}", tmp_path, capsys) == "refused"
        pages = [get_body(cache, f"/{number}") for number in range(4)]
        assert pages == [get_body(cache, f"/{number}") for number in range(4)]
    assert all(origin.hits for origin in behind)
    assert sum(hits for origin in behind for hits in origin.hits.values()) == len(pages)


@pytest.mark.parametrize("driver", ["nginx", "squid", "ats"])
def test_a_cache_with_a_certificate_is_proven_on_both_ports(
    driver: str, tmp_path: Path, origins: tuple[Origin, Origin], capsys: pytest.CaptureFixture[str]
) -> None:
    """The two ports of a Squid are two nodes: what it has by one of them, a purge at the other one leaves."""
    make_certificate(tmp_path, "n")
    port, tls = free_port(), free_port()
    files = [*("--certificate", "/proc/self/cwd/n.pem"), *("--certificate-key", "/proc/self/cwd/n.key")]
    ports = [*("--port", str(port)), *("--tls-port", str(tls)), *("--to", str(tmp_path / "made"))]
    words = ["--whole", "--node", "n", "--backend", origins[0].address, *files, *ports]
    assert main(["render", driver, *words]) == 0
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    cache = MAKERS[driver](tmp_path, made, port)
    cache.write({name: (tmp_path / name).read_text() for name in ("n.pem", "n.key")})
    with cache:
        assert verdict(driver, cache.url, tmp_path, capsys) == "proven"
        name = "n-tls" if driver == "squid" else "n"
        assert verdict(driver, f"https://127.0.0.1:{tls}", tmp_path, capsys, name=name) == "proven"
