"""Wide purges on Apache Traffic Server: rules of regex_revalidate, and generations of remap_purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.caches.servers import ATS_RULES, ATS_RULES_STATE
from tests.rigs.ats_minutes import ats_with_rules
from tests.rigs.engine_process import EngineProcess, get_page, node_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from release.lab.caches import Cache
    from release.lab.origin import Origin

HOST = "img.example.com"
OTHER = "www.example.com"
GENERATION = ("X-Generation", "s3cret")


def table(cache: Cache) -> str:
    """Return the table of a node with rules."""
    files = {"rules_file": ATS_RULES, "rules_state_file": ATS_RULES_STATE}
    paths = {key: str(cache.workdir / path) for key, path in files.items()}
    return node_table(cache, name="edge-1", **paths)


def served(cache: Cache, *paths: str, host: str = HOST) -> list[str]:
    """Return the version of each page, in two languages."""
    return [
        get_page(cache, path, host=host, headers={"Accept-Language": language})[1][:2].decode()
        for path in paths
        for language in ("de", "fr")
    ]


def fill(origin: Origin, cache: Cache, *paths: str) -> None:
    """Have the old pages cached; from then on the origin has new ones."""

    def is_cached() -> bool:
        before = origin.hits.total()
        assert served(cache, *paths) == ["v1"] * 2 * len(paths)
        return origin.hits.total() == before

    wait_until(is_cached, what="every variant being cached")
    origin.version = "v2"


def test_a_prefix_is_acked_when_the_plugin_has_read_its_rule_and_not_before(
    origin: Origin, tmp_path: Path
) -> None:
    """All variants go, and what is beside the prefix stays; as long as nothing is acked, nothing goes."""
    origin.headers = {"Vary": "Accept-Language"}
    with (
        ats_with_rules(tmp_path, name="edge-1", backend=origin.address) as (cache, pass_a_minute),
        EngineProcess(tmp_path, table(cache)) as engine,
    ):
        pages = ["/n/a", "/n/b?x=1", "/r/a.jpg", "/r/a.png", "/m"]
        fill(origin, cache, *pages)
        prefix = engine.submit([f"http://{HOST}/n/"], kind="prefix", due_s=0.2)
        regex = engine.submit([f"http://{HOST}/r/.*\\.jpg$"], kind="regex")
        bad = engine.submit([f"http://{HOST}/(?(VERSION>=10.0)a|b)"], kind="regex")
        rules = cache.workdir / ATS_RULES
        ours = ("/n/", "jpg", "VERSION")  # one writing a second
        wait_until(lambda: rules.exists() and all(one in rules.read_text() for one in ours), what="the rules")
        waiting = engine.wait_for(prefix, "partial")
        assert (waiting["counter"], waiting["nodes"][0]["acked_at"]) == (0, None)
        assert served(cache, *pages) == ["v1"] * 10
        pass_a_minute()
        task = engine.wait_for(prefix)
        assert (task["state"], task["counter"], task["errors"]) == ("done", 1, [])
        assert "all hosts" in task["notes"][0]["note"]
        assert engine.wait_for(regex)["state"] == "done"
        assert served(cache, *pages) == ["v2"] * 6 + ["v1"] * 4
        failed = engine.wait_for(bad)
        assert failed["state"] == "failed"
        assert "cannot compile it" in failed["errors"][0]["reason"]


@pytest.mark.slow
def test_a_host_is_a_rule_of_all_its_paths(origin: Origin, tmp_path: Path) -> None:
    with (
        ats_with_rules(tmp_path, name="edge-1", backend=origin.address) as (cache, pass_a_minute),
        EngineProcess(tmp_path, table(cache)) as engine,
    ):
        fill(origin, cache, "/", "/n/a?x")
        host = engine.submit([HOST], kind="host")
        wait_until((cache.workdir / ATS_RULES).exists, what="the rule")
        pass_a_minute()
        assert engine.wait_for(host)["state"] == "done"
        assert served(cache, "/", "/n/a?x") == ["v2"] * 4


@pytest.mark.parametrize("secret", [GENERATION[1], "another"])
def test_a_host_is_purged_by_a_new_generation(secret: str, origin: Origin, tmp_path: Path) -> None:
    """With the wrong secret ATS purges the page "/" alone, and answers as well as ever: that is no ack."""
    origin.headers = {"Vary": "Accept-Language"}
    with (
        caches.start_ats(
            tmp_path, name="edge-1", backend=origin.address, hosts=[HOST], generation=GENERATION
        ) as cache,
        EngineProcess(
            tmp_path,
            node_table(cache, name="edge-1", generation_header=GENERATION[0], generation_secret=secret),
        ) as engine,
    ):
        fill(origin, cache, "/", "/n/a")
        if secret != GENERATION[1]:
            task = engine.wait_for(engine.submit([HOST], kind="host"), "partial")
            assert "remap_purge" in task["errors"][0]["reason"]
            assert served(cache, "/n/a") == ["v1"] * 2
            return
        assert engine.wait_for(engine.submit([HOST], kind="host"))["state"] == "done"
        assert served(cache, "/", "/n/a") == ["v2"] * 4
        origin.version = "v3"
        task = engine.wait_for(engine.submit([f"http://{HOST}/n/"], kind="prefix"))
        assert (task["state"], "new generation" in task["notes"][0]["note"]) == ("done", True)
        assert served(cache, "/n/a", "/") == ["v3"] * 4
        origin.version = "v4"
        assert engine.wait_for(engine.submit([f"http://{HOST}/n/a"]))["state"] == "done"
        assert served(cache, "/n/a", "/") == ["v4"] * 2 + ["v3"] * 2
