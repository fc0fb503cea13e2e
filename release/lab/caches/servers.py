"""The four cache servers: where they are found, what is rendered for them, how they are called.

`start_varnish`, `start_ats`, `start_nginx` and `start_squid` take the same keywords where these make sense:

* *name*: of the server, which lives in ``workdir/name``.
* *node*: its name in ``engine.toml``, which goes into the mark of its answers; by default *name*.
* *backend*: ``host:port`` of the origin or of the cache behind this one.
* *purge_allowed*: with ``False`` the access list names another client, so this server refuses a PURGE.
* *default_ttl_s*: how long to keep what comes without Cache-Control.
* *port*: a fixed one instead of a free one.
* *canary*: ``host:port`` of an engine that answers canaries; empty: they come from *backend*, like all else.

They return a running `Cache` and raise `CacheError` when the server is missing or does not start.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.base.templates import render
from engine.config.tables import CanaryConfig
from release.lab.caches.errors import CacheError
from release.lab.caches.ports import free_port
from release.lab.caches.process import Cache, find_binary

STORAGE_MB = 256
NGINX_MODULE_DIRS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")
NGINX_MODULE = "ngx_http_cache_purge_module.so"
NGINX_PURGE_PATH = "/purge"
NGINX_ZONE = "purgeline"

VARNISH_QUICK = ("-p", "cc_command=%D -O0 -Wno-cpp")
"""The compiler's usual command, without optimisation: saves 0.3 s of the 0.5 s of CPU that a start takes."""

_BINARIES = {"varnish": "varnishd", "ats": "traffic_server", "nginx": "nginx", "squid": "squid"}
_ATS_FOLDERS = ("cache", "log", "run", "rules")
_ATS_FILES = (
    *("records.config", "remap.config", "ip_allow.yaml", "storage.config"),
    *("plugin.config", "purgeline.config"),
)
ATS_RULES = "rules/purgeline.rules"
ATS_RULES_STATE = "run/purgeline.state"
_PURGE_FROM = ["127.0.0.1"]
_PURGE_FROM_ELSEWHERE = ["192.0.2.1"]  # RFC 5737: nobody's address


def available() -> dict[str, str]:
    """Return driver -> path of its program, for the servers this machine has.

    nginx counts only together with its cache_purge module: without it there is no PURGE.
    """
    programs = {driver: find_binary(binary) for driver, binary in _BINARIES.items()}
    if _nginx_module() is None:
        programs["nginx"] = None
    return {driver: path for driver, path in programs.items() if path is not None}


def start_varnish(
    workdir: Path,
    *,
    name: str,
    backend: str,
    node: str | None = None,
    purge_allowed: bool = True,
    xkey: bool = True,
    tag_headers: Sequence[str] | None = None,
    group_reports: bool = False,
    is_parent: bool = False,
    grace_s: int = 60,
    default_ttl_s: int = 3600,
    port: int | None = None,
    canary: str = "",
    is_optimised: bool = False,
) -> Cache:
    """Start a Varnish.

    Args:
        workdir: parent of its directory.
        name: of the server.
        backend: ``host:port`` behind it.
        node: its name in ``engine.toml``; by default *name*.
        purge_allowed: whether this machine may purge.
        xkey: surrogate keys by vmod xkey; ``False``: by bans.
        tag_headers: which carry tags; None: those that the template names.
        group_reports: log which cache groups the origin invalidates.
        is_parent: pass them on, for the edges that fetch here.
        grace_s: how long a soft-purged object may still be served.
        default_ttl_s: how long to keep what comes without Cache-Control.
        port: instead of a free one.
        canary: ``host:port`` that canaries are fetched from; empty: from *backend*, like all else.
        is_optimised: compile the VCL as Varnish does by default, for whoever measures it.
    """
    port = port or free_port()
    vcl = render(
        "varnish.vcl.j2",
        backends=_backends(backend),
        node=node or name,
        purge_from=_purge_from(allowed=purge_allowed),
        key_mode="xkey" if xkey else "ban",
        tag_headers=list(tag_headers or ()),
        group_reports=group_reports,
        is_parent=is_parent,
        grace_s=grace_s,
        canary=_canary(canary),
    )
    argv = _varnish_argv(name, port, default_ttl_s, is_optimised=is_optimised)
    return _started(Cache(workdir, name=name, driver="varnish", argv=argv, port=port), {"varnish.vcl": vcl})


def _started(server: Cache, files: dict[str, str], directories: Sequence[str] = ()) -> Cache:
    server.write(files, directories=directories)
    server.start()
    return server


def _varnish_argv(name: str, port: int, default_ttl_s: int, *, is_optimised: bool) -> list[str]:
    """Few threads per pool at start (two pools of 100 by default), more when needed; no CLI port."""
    return [
        *(_binary("varnish", name), "-F", "-j", "none", "-T", "none", "-n", "/proc/self/cwd"),
        *("-f", "/proc/self/cwd/varnish.vcl", "-a", f"127.0.0.1:{port}", "-t", str(default_ttl_s)),
        *("-s", f"default=malloc,{STORAGE_MB}m", "-p", "thread_pool_min=25", "-p", "listen_depth=4096"),
        *([] if is_optimised else VARNISH_QUICK),
    ]


def start_ats(
    workdir: Path,
    *,
    name: str,
    backend: str,
    node: str | None = None,
    purge_allowed: bool = True,
    hosts: Sequence[str] | None = None,
    default_ttl_s: int = 3600,
    port: int | None = None,
    canary: str = "",
    rules: bool = False,
    generation: tuple[str, str] = ("", ""),
) -> Cache:
    """Start an Apache Traffic Server.

    Args:
        workdir: parent of its directory.
        name: of the server.
        backend: ``host:port`` behind it.
        node: its name in ``engine.toml``; by default *name*.
        purge_allowed: whether this machine may purge.
        hosts: hosts with a remap rule; ``None``: any host.
        default_ttl_s: how long to keep what comes without Cache-Control.
        port: instead of a free one.
        canary: ``host:port`` that canaries are fetched from; empty: from *backend*, like all else.
        rules: load regex_revalidate with `ATS_RULES` and `ATS_RULES_STATE` of its directory.
        generation: header and secret by which remap_purge purges a rule; empty: it is not loaded.
    """
    port = port or free_port()
    settings: dict[str, Any] = {
        "port": port,
        "address": "127.0.0.1",
        "is_lab": True,
        "backend": backend,
        "node": node or name,
        "hosts": list(hosts or ()),
        "purge_from": _purge_from(allowed=purge_allowed),
        "default_ttl_s": default_ttl_s,
        "storage_mb": STORAGE_MB,
        "canary": _canary(canary),
        "prefix": str(Path(binary := _binary("ats", name)).parents[1]),
        "rules_file": f"/proc/self/cwd/{ATS_RULES}" if rules else "",
        "rules_state_file": f"/proc/self/cwd/{ATS_RULES_STATE}",
        "generation": _generation(*generation),
    }
    files = {f"conf/{file}": render(f"ats/{file}.j2", **settings) for file in _ATS_FILES}
    files["runroot.yaml"] = render("ats/runroot.yaml.j2", **settings)
    argv = [binary, "--run-root=/proc/self/cwd/runroot.yaml"]
    return _started(Cache(workdir, name=name, driver="ats", argv=argv, port=port), files, _ATS_FOLDERS)


def start_nginx(
    workdir: Path,
    *,
    name: str,
    backend: str,
    node: str | None = None,
    purge_allowed: bool = True,
    keepalive_requests: int = 1000,
    default_ttl_s: int = 3600,
    port: int | None = None,
    canary: str = "",
) -> Cache:
    """Start an nginx with the cache_purge module.

    Args:
        workdir: parent of its directory.
        name: of the server.
        backend: ``host:port`` behind it.
        node: its name in ``engine.toml``; by default *name*.
        purge_allowed: whether this machine may purge.
        keepalive_requests: requests after which nginx closes a connection.
        default_ttl_s: how long to keep what comes without Cache-Control.
        port: instead of a free one.
        canary: ``host:port`` that canaries are fetched from; empty: from *backend*, like all else.
    """
    port = port or free_port()
    text = render(
        "nginx.conf.j2",
        module=_nginx_module(),
        listens=[f"127.0.0.1:{port}"],
        cache_dir="cache",
        backends=[backend],
        node=node or name,
        zone=NGINX_ZONE,
        purge_path=NGINX_PURGE_PATH,
        purge_from=_purge_from(allowed=purge_allowed),
        keepalive_requests=keepalive_requests,
        default_ttl_s=default_ttl_s,
        storage_mb=STORAGE_MB,
        canary=_canary(canary),
    )
    # -e: without it nginx tries its compiled-in log file first.
    argv = [_binary("nginx", name), "-p", "/proc/self/cwd/", "-c", "nginx.conf", "-e", "stderr"]
    server = Cache(workdir, name=name, driver="nginx", argv=argv, port=port, purge_path=NGINX_PURGE_PATH)
    server.write({"nginx.conf": text}, directories=("cache", "tmp"))
    server.start()
    return server


def start_squid(
    workdir: Path,
    *,
    name: str,
    backend: str,
    node: str | None = None,
    purge_allowed: bool = True,
    default_ttl_s: int = 3600,
    port: int | None = None,
    canary: str = "",
) -> Cache:
    """Start a Squid as a reverse proxy.

    Args:
        workdir: parent of its directory.
        name: of the server.
        backend: ``host:port`` behind it.
        node: its name in ``engine.toml``; by default *name*.
        purge_allowed: whether this machine may purge.
        default_ttl_s: how long to keep what comes without Cache-Control.
        port: instead of a free one.
        canary: ``host:port`` that canaries are fetched from; empty: from *backend*, like all else.
    """
    port = port or free_port()
    text = render(
        "squid.conf.j2",
        listen=f"127.0.0.1:{port}",
        is_lab=True,
        backends=_backends(backend),
        node=node or name,
        purge_from=_purge_from(allowed=purge_allowed),
        default_ttl_s=default_ttl_s,
        storage_mb=STORAGE_MB,
        canary=_canary(canary),
    )
    # -N: one process, in the foreground. -n: Squid makes three small files in /dev/shm whatever its settings;
    # the service name keeps those of two Squids apart. Only a killed one leaves them behind.
    service = f"purgeline{port}"
    leftovers = [f"/dev/shm/{service}-cf__{part}.shm" for part in ("metadata", "queues", "readers")]  # noqa: S108
    argv = [_binary("squid", name), "-N", "-n", service, "-f", "/proc/self/cwd/squid.conf"]
    server = Cache(workdir, name=name, driver="squid", argv=argv, port=port, leftovers=leftovers)
    server.write({"squid.conf": text})
    server.start()
    return server


def start_cache(driver: str, workdir: Path, *, name: str, backend: str, **options: Any) -> Cache:
    """Start the server of *driver*; *options* as in its own function.

    Raises:
        CacheError: no such driver, or the server does not start.
    """
    starters: dict[str, Callable[..., Cache]] = {
        "varnish": start_varnish,
        "ats": start_ats,
        "nginx": start_nginx,
        "squid": start_squid,
    }
    if driver not in starters:
        raise CacheError(name, f"no driver {driver!r}, only {', '.join(starters)}")
    return starters[driver](workdir, name=name, backend=backend, **options)


def _binary(driver: str, name: str) -> str:
    path = available().get(driver)
    if path is None:
        raise CacheError(name, f"{driver} is not installed on this machine")
    return path


def _nginx_module() -> str | None:
    paths = (Path(directory) / NGINX_MODULE for directory in NGINX_MODULE_DIRS)
    return next((str(path) for path in paths if path.is_file()), None)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _backends(address: str) -> list[dict[str, str | int]]:
    host, port = _split(address)
    return [{"host": host, "port": port}]


def _canary(address: str) -> dict[str, str | int] | None:
    """Return where templates have canaries fetched from."""
    if not address:
        return None
    host, port = _split(address)
    return {"host": host, "port": port, "path": CanaryConfig().path}


def _generation(header: str, secret: str) -> dict[str, str] | None:
    if not header:
        return None
    return {"header": header, "secret": secret, "state_file": "/proc/self/cwd/run/purgeline.generation"}


def _purge_from(*, allowed: bool) -> list[str]:
    return _PURGE_FROM if allowed else _PURGE_FROM_ELSEWHERE
