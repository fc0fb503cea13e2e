"""Pages that say how to do something: each block is typed, with a Varnish, an nginx and a Redis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.redis_servers import RedisServer
from tests.rigs.typed import ENGINE, Ports, blocks, open_folder, script_of, typed, unsaid
from tests.typed_pages import PAGES, SECRET, TOKENS, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Servers(NamedTuple):
    """What all pages share."""

    origin: Origin
    ports: dict[str, str]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("pages")
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="varnish-1", backend=f"127.0.0.1:{origin.port}") as varnish,
        caches.start_nginx(folder, name="nginx-1", backend=f"127.0.0.1:{varnish.port}") as nginx,
        RedisServer(folder) as redis,
    ):
        origin.headers = {"Surrogate-Key": "product-1 shop"}
        yield Servers(origin, {"6081": str(varnish.port), "8080": str(nginx.port), "6379": str(redis.port)})


def type_page(name: str, servers: Servers) -> list[str]:
    """Type a page; return the lines that were said, among them, in order, those that it shows."""
    setting = PAGES[name]
    page = path_of(name).read_text(encoding="utf-8")
    steps = [block for block in blocks(page) if not (block.run_by or block.not_run)]
    tables = "".join(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)) * setting.own_tables
    config = ENGINE + setting.config.replace("{origin}", servers.origin.url) + tables
    script = setting.begin + script_of(steps)
    with open_folder() as place:
        ports = Ports(servers.ports)
        for word, stands in setting.put.items():
            config, script = config.replace(word, stands), script.replace(word, stands)
        if setting.config:
            (place / "engine.toml").write_text(ports.into(config), encoding="utf-8")
        env = {"PURGELINE_TOKEN": SECRET} if TOKENS in setting.config else {}
        code, said = typed(script, place, ports, env=env, is_terminal=setting.is_terminal)
        logs = "".join(f"{log.name}: {log.read_text(encoding='utf-8')}" for log in place.glob("*.log"))
    assert code == 0, said + logs
    lines = [line.rstrip() for line in said.splitlines()]
    shown = [line for step in steps for line in step.shown]
    missing = unsaid(shown, lines, by_shape=setting.by_shape)
    assert not missing, f"{missing!r} was not said:\n{said}{logs}"
    return lines


@pytest.mark.redis
@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"keys.md", "migration.md"}))
def test_what_a_page_has_typed_does_what_it_shows(name: str, servers: Servers) -> None:
    type_page(name, servers)


@pytest.mark.redis
def test_what_each_other_tool_sends_becomes_a_purge(servers: Servers) -> None:
    lines = type_page("migration.md", servers)
    assert [line.split("\t")[-2] for line in lines if "\tdone\t" in line] == ["varnish-1 acked"] * 2


@pytest.mark.redis
def test_a_key_purges_the_pages_that_carry_it(servers: Servers) -> None:
    lines = type_page("keys.md", servers)
    assert re.fullmatch(r'\{"task_id":".*","state":"accepted","total":1\}', lines[-1])
