"""Real caches that answer purges themselves, or pass them on: which of both, the host of a request decides.

One process for each kind of cache, so that every way in which it may be configured costs no start of its own.
None of them sets a mark: what is tried is what an answer shows without one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.templates import folder, render
from release.lab.caches import Cache, free_port
from release.lab.caches.process import find_binary
from release.lab.caches.servers import NGINX_MODULE, NGINX_MODULE_DIRS, VARNISH_QUICK

if TYPE_CHECKING:
    from release.lab.origin import Origin

_VARNISH = """\
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
backend parent {{ .host = "127.0.0.1"; .port = "{parent}"; }}
sub vcl_recv {{
    set req.backend_hint = origin;
    if (req.http.Host ~ "parent") {{ set req.backend_hint = parent; }}
    if (req.method == "GET") {{ return (hash); }}
    if (req.http.Host ~ "^(purge|restart|stripped|purgeline-probe)[.]") {{ return (purge); }}
    if (req.http.Host ~ "^refuse[.]") {{ return (synth(403, "Forbidden")); }}
    if (req.http.Host ~ "^(pass|bare)[.]") {{ return (pass); }}
    if (req.http.Host ~ "^hash[.]") {{ return (hash); }}
    # any other host: as without code for purges, an unknown method is piped
}}
sub vcl_purge {{
    if (req.http.Host ~ "^restart[.]") {{ set req.method = "GET"; return (restart); }}
}}
sub vcl_pipe {{
    if (req.http.Host ~ "^keep[.]") {{ unset bereq.http.Connection; }}
}}
sub vcl_synth {{
    if (req.http.Host ~ "^(stripped|purgeline-probe)[.]") {{
        unset resp.http.Server; unset resp.http.X-Varnish;
    }}
    if (req.http.Host ~ "^marking[.]") {{ set resp.http.Purgeline-Cache = "varnish parent-1"; }}
}}
sub vcl_deliver {{
    if (req.http.Host ~ "^bare[.]") {{
        unset resp.http.Via; unset resp.http.Age; unset resp.http.X-Varnish;
    }}
}}
"""
_VARNISH_PARENT = """\
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{
    if (req.method == "PURGE") {{ return (purge); }}
}}
sub vcl_synth {{
    if (req.http.Host ~ "^marking[.]") {{ set resp.http.Purgeline-Cache = "varnish parent-1"; }}
}}
"""
_NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    proxy_cache_path edge keys_zone=edge:1m;
    proxy_cache_path parent keys_zone=parent:1m;
    proxy_cache_valid 200 1h;
    server {{ # with a purge location
        listen 127.0.0.1:{port} default_server;
        location ~ ^/purge(/.*) {{ proxy_cache_purge edge $host$1$is_args$args; }}
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_set_header Host $host;
            proxy_cache edge;
            proxy_cache_key $host$request_uri;
        }}
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name refuse.test;
        location ~ ^/purge(/.*) {{ deny all; proxy_cache_purge edge $host$1$is_args$args; }}
    }}
    server {{ # without one, before the origin
        listen 127.0.0.1:{port};
        server_name without.test;
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_set_header Host $host;
            proxy_cache edge;
            proxy_cache_key $host$request_uri;
        }}
    }}
    server {{ # before an nginx that is an origin
        listen 127.0.0.1:{port};
        server_name files.test;
        location / {{ proxy_pass http://127.0.0.1:{files}; }}
    }}
    server {{ # before an nginx with a purge location, which sees the same host
        listen 127.0.0.1:{port};
        server_name parent.test;
        location / {{
            proxy_pass http://127.0.0.1:{parent};
            proxy_set_header Host $host;
            proxy_cache edge;
            proxy_cache_key $host$request_uri;
        }}
    }}
    server {{ # the same, and the parent sees another host
        listen 127.0.0.1:{port};
        server_name renamed.test;
        location / {{
            proxy_pass http://127.0.0.1:{parent};
            proxy_set_header Host other.test;
            proxy_cache edge;
            proxy_cache_key $host$request_uri;
        }}
    }}
    server {{
        listen 127.0.0.1:{parent};
        location ~ ^/purge(/.*) {{ proxy_cache_purge parent $host$1$is_args$args; }}
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_set_header Host $host;
            proxy_cache parent;
            proxy_cache_key $host$request_uri;
        }}
    }}
    server {{
        listen 127.0.0.1:{files};
        location / {{ root tmp; }}
    }}
}}
"""
_ATS_REMAP = """\
map http://uncached.test/ http://127.0.0.1:{origin}/ \\
    @plugin=conf_remap.so @pparam=proxy.config.http.cache.http=0
map http://marking.test/ http://127.0.0.1:{origin}/ \\
    @plugin=conf_remap.so @pparam=proxy.config.http.cache.http=0 \\
    @plugin=header_rewrite.so @pparam=purgeline.config
map http://refuse.test/ http://127.0.0.1:{origin}/ @action=deny @method=PURGE
map http://purge.test/ http://127.0.0.1:{origin}/
map http://probe.test/ http://127.0.0.1:{origin}/
"""
_SQUID_RULES = """\
acl purges method PURGE
acl refused dstdomain refuse.test
http_access deny purges refused
http_access allow purges
"""


def varnish_parent(workdir: Path, origin: Origin) -> Cache:
    """Start a Varnish that purges, without a mark but for hosts ``marking.*``."""
    return _varnish(workdir, "varnish-parent", _VARNISH_PARENT.format(origin=origin.port))


def varnish(workdir: Path, origin: Origin, parent: Cache) -> Cache:
    """Start a Varnish; hosts with ``parent`` in their names are behind *parent*.

    Its answer to a probe does not tell whose it is.
    """
    return _varnish(workdir, "varnish-edge", _VARNISH.format(origin=origin.port, parent=parent.port))


def nginx(workdir: Path, origin: Origin) -> tuple[Cache, int]:
    """Start an nginx; return it, and the port of the one behind it (in the same process)."""
    port, parent, files = free_port(), free_port(), free_port()
    modules = (Path(each) / NGINX_MODULE for each in NGINX_MODULE_DIRS)
    text = _NGINX.format(
        module=next(path for path in modules if path.is_file()),
        port=port,
        parent=parent,
        files=files,
        origin=origin.port,
    )
    argv = [_binary("nginx"), "-p", "/proc/self/cwd/", "-c", "nginx.conf", "-e", "stderr"]
    cache = Cache(workdir, name="nginx-edge", driver="nginx", argv=argv, port=port, purge_path="/purge")
    cache.write({"nginx.conf": text}, directories=("edge", "parent", "tmp"))
    cache.start()
    return cache, parent


def ats(workdir: Path, origin: Origin) -> Cache:
    """Start an ATS; purges of ``uncached.test`` are passed on; ``marking.test`` has our rules as well."""
    port = free_port()
    binary = _binary("traffic_server")
    settings = {
        "port": port,
        "address": "127.0.0.1",
        "is_lab": True,
        "purge_from": ["127.0.0.1"],
        "default_ttl_s": 3600,
        "storage_mb": 16,
        "prefix": str(Path(binary).parents[1]),
    }
    files = {
        f"conf/{name}": render(f"ats/{name}.j2", **settings)
        for name in ("records.config", "ip_allow.yaml", "storage.config")
    }
    files["conf/remap.config"] = _ATS_REMAP.format(origin=origin.port)
    rules = render(
        "ats/purgeline.config.j2", node="edge-1"
    )  # here for one host alone, which has no such hook
    files["conf/purgeline.config"] = rules.replace("READ_REQUEST_HDR_HOOK", "REMAP_PSEUDO_HOOK")
    files["runroot.yaml"] = render("ats/runroot.yaml.j2", **settings)
    argv = [binary, "--run-root=/proc/self/cwd/runroot.yaml"]
    cache = Cache(workdir, name="ats-edge", driver="ats", argv=argv, port=port)
    cache.write(files, directories=("cache", "log", "run"))
    cache.start()
    return cache


def squid(workdir: Path, origin: Origin) -> Cache:
    """Start a Squid; it refuses purges of ``refuse.test``, and passes on unknown methods, as always."""
    port = free_port()
    text = render(
        "squid.conf.j2",
        listen=f"127.0.0.1:{port}",
        is_lab=True,
        backends=[{"host": "127.0.0.1", "port": origin.port}],
        node="",
        purge_from=["127.0.0.1"],
        default_ttl_s=3600,
        storage_mb=16,
        canary=None,
    )
    fragment = render("purge/squid.conf.j2", node="", purge_from=["127.0.0.1"])
    assert fragment in text, f"{folder()}/squid.conf.j2 has the rules of its fragment"
    service = f"purgeline{port}"
    leftovers = [f"/dev/shm/{service}-cf__{part}.shm" for part in ("metadata", "queues", "readers")]
    argv = [_binary("squid"), "-N", "-n", service, "-f", "/proc/self/cwd/squid.conf"]
    cache = Cache(workdir, name="squid-edge", driver="squid", argv=argv, port=port, leftovers=leftovers)
    cache.write({"squid.conf": text.replace(fragment, _SQUID_RULES)})
    cache.start()
    return cache


def _varnish(workdir: Path, name: str, vcl: str) -> Cache:
    port = free_port()
    argv = [
        *(_binary("varnishd"), "-F", "-j", "none", "-T", "none", "-n", "/proc/self/cwd"),
        *("-f", "/proc/self/cwd/varnish.vcl", "-a", f"127.0.0.1:{port}", "-t", "3600"),
        *("-s", "default=malloc,16m", "-p", "thread_pool_min=25", *VARNISH_QUICK),
    ]
    cache = Cache(workdir, name=name, driver="varnish", argv=argv, port=port)
    cache.write({"varnish.vcl": vcl})
    cache.start()
    return cache


def _binary(name: str) -> str:
    path = find_binary(name)
    assert path is not None, f"{name} is not installed"
    return path
