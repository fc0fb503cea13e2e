"""Clients of caches purge a real Varnish through a door, unchanged, and the pages that they name are fresh.

    python -m tests.rigs.real_clients --wagtail PYTHON --plone PYTHON --foshttpcache AUTOLOAD

PYTHON is an interpreter that has wagtail or plone.cachepurging installed, AUTOLOAD a file for PHP that makes
the classes of FOSHttpCache and of what it needs known. curl needs no option; others are run where they are
named. Prints a line for each purge; ends with 1 where one left a page stale, or freshened another one.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.fakes.cache_clients import SHOP, SITE
from tests.rigs.door import DoorEngine
from tests.rigs.engine_process import get_body, node_table

PAGES = {
    "/a": "",
    "/a?q=1": "",
    "/news/1": "",
    "/news/2": "post-1",
    "/shop/": "post-1 post-2",
}  #: path → tags
WAGTAIL = """\
import sys
from wagtail.contrib.frontend_cache.backends import HTTPBackend
door, path = sys.argv[1:]
HTTPBackend({"LOCATION": door}).purge("http://www.example.com" + path)
"""
PLONE = """\
import sys
from plone.cachepurging.purger import DefaultPurger
from plone.cachepurging.utils import getURLsToPurge
door, path = sys.argv[1:]
answers = [DefaultPurger().purgeSync(url) for url in getURLsToPurge(path, [door])]
sys.exit(answers[0][0] != 200)
"""
FOSHTTPCACHE = """\
<?php
[, $autoload, $server, $site, $mode, $call] = $argv;
require $autoload;
$dispatcher = new FOS\\HttpCache\\ProxyClient\\HttpDispatcher([$server], $site);
$client = new FOS\\HttpCache\\ProxyClient\\Varnish($dispatcher, ['tag_mode' => $mode]);
$arguments = array_slice($argv, 6);
$client->$call($call === 'invalidateTags' ? $arguments : $arguments[0])->flush();
"""


class Case(NamedTuple):
    """A purge of a client."""

    client: str
    what: str
    command: list[str]
    fresh: set[str]  #: the pages that it names


class Stage(NamedTuple):
    """An origin, a Varnish, and an engine whose door waits until purges are acked."""

    origin: Origin
    cache: Cache
    engine: DoorEngine


def of_host(*paths: str, hosts: tuple[str, ...] = (SITE,)) -> set[str]:
    """Return pages of *hosts* as `fresh` has them."""
    return {f"{host}{path}" for host in hosts for path in paths}


def cases(args: argparse.Namespace, folder: Path, port: int) -> Iterator[Case]:
    """Give the purges of all clients that are named."""
    door, everywhere = f"http://127.0.0.1:{port}", (SITE, SHOP)
    curl = ["curl", "-sS", "--fail", "-H", f"Host: {SITE}", "-X"]
    yield Case("curl", "PURGE", [*curl, "PURGE", f"{door}/a?q=1"], of_host("/a?q=1"))
    yield Case("curl", "BAN", [*curl, "BAN", f"{door}/news/"], of_host("/news/1", "/news/2"))
    for name, python, text in (("Wagtail", args.wagtail, WAGTAIL), ("plone.cachepurging", args.plone, PLONE)):
        if python:
            path = folder / f"{name}.py"
            path.write_text(text)
            yield Case(name, "PURGE", [python, str(path), door, "/news/1"], of_host("/news/1"))
    if not args.foshttpcache:
        return
    path = folder / "fos.php"
    path.write_text(FOSHTTPCACHE)
    php = ["php", str(path), args.foshttpcache, f"127.0.0.1:{port}", SITE]
    news = of_host("/news/1", "/news/2", hosts=everywhere)
    tagged, two = of_host("/news/2", "/shop/", hosts=everywhere), of_host("/shop/", hosts=everywhere)
    yield Case("FOSHttpCache", "purge", [*php, "ban", "purge", "/a"], of_host("/a"))
    yield Case("FOSHttpCache", "refresh", [*php, "ban", "refresh", "/a"], of_host("/a"))
    yield Case("FOSHttpCache", "ban", [*php, "ban", "banPath", "^/news/"], news)
    yield Case("FOSHttpCache", "tags by ban", [*php, "ban", "invalidateTags", "post-1", "x"], tagged)
    yield Case("FOSHttpCache", "tags by xkey", [*php, "purgekeys", "invalidateTags", "post-2"], two)


def fresh(stage: Stage) -> set[str]:
    """Return the pages that a second visitor gets in the second version: one who has no stale one served."""
    hosts = (SITE, SHOP)
    pages = [(host, path) for host in hosts for path in PAGES]
    for host, path in pages:
        get_body(stage.cache, path, host=host)
    deadline = time.monotonic() + 2  # of a soft purge the first visitor gets the old page
    while True:
        found = {f"{host}{path}" for host, path in pages if get_body(stage.cache, path, host=host) == b"v2"}
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def publish(stage: Stage, version: bytes) -> None:
    """Have the origin answer every page with *version*."""
    for host in (SITE, SHOP):
        for path, tags in PAGES.items():
            stage.origin.set(host, path, version, headers={"Surrogate-Key": tags} if tags else {})


def is_right(stage: Stage, case: Case) -> bool:
    """Run a purge against a cache full of stale pages; tell whether exactly what it names is fresh."""
    publish(stage, b"v1")
    for host in (SITE, SHOP):
        stage.engine.purge(f"BAN / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        for path in PAGES:
            get_body(stage.cache, path, host=host)
    publish(stage, b"v2")
    began = time.monotonic()
    done = subprocess.run(case.command, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    found = fresh(stage)
    is_good = done.returncode == 0 and found == case.fresh
    verdict = "stale to fresh" if is_good else f"WRONG, exit {done.returncode}: {done.stderr[-400:]}"
    print(f"{case.client:20}{case.what:14}{verdict}: {', '.join(sorted(found))} ({took:.2f} s)", flush=True)
    return is_good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for option in ("--wagtail", "--plone", "--foshttpcache"):
        parser.add_argument(option, default="")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="clients-") as name,
        Origin() as origin,
        caches.start_varnish(Path(name), name="edge-1", backend=origin.address) as cache,
        DoorEngine(
            Path(name),
            node_table(cache, name="edge-1"),
            *(SITE, SHOP),
            door={"wait": "acked", "default_hosts": [SITE]},
        ) as engine,
    ):
        stage = Stage(origin, cache, engine)
        results = [is_right(stage, case) for case in cases(args, Path(name), engine.door_port)]
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
