"""The lines that a cache needs: complete, for this node, each part with the place where it goes."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from engine.base import templates
from engine.cli import rendering, whole
from engine.cli.exits import UsageError
from engine.cli.fragments import Setting, fragment, setting_of
from engine.cli.main import main
from engine.cli.screen import Output
from engine.cli.values import Backend
from engine.config.tables import CanaryConfig, Config, NodeConfig
from tests import cache_docs

if TYPE_CHECKING:
    from pathlib import Path

MADE = 2  #: parts of a page: the lines, and what the cache can do
CONFIG = """
[[layer]]
name = "parent"
[[layer]]
name = "edge"
[[node]]
name = "parent-1"
layer = "parent"
driver = "varnish"
url = "http://127.0.0.1:1"
key_mode = "none"
[[node]]
name = "edge-1"
driver = "nginx"
url = "http://127.0.0.1:2"
purge_path = "/drop"
[[node]]
name = "edge-2"
driver = "nginx"
url = "http://127.0.0.1:3"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "engine.toml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("driver", rendering.CACHES)
def test_every_cache_is_told_its_mark_its_guard_and_who_may_purge(driver: str) -> None:
    lines = fragment(Setting(driver, "edge-7", ["10.0.0.1", "10.1.0.0/16"]))
    assert f"{driver} edge-7" in lines
    assert lines.count("Purgeline-Nonce") >= 1
    assert all(name in lines.lower() for name in ("10.0.0.1", "10.1.0.0", "via"))
    assert lines.startswith("# ==> ")
    assert "{{" not in lines


def test_a_node_decides_path_keys_and_whether_it_is_a_parent() -> None:
    node = NodeConfig(name="n", driver="varnish", url="http://n", key_mode="none", purge_path="/p")
    setting = setting_of(node, Config(node=[node]), purge_from=["::1"], is_parent=True)
    assert (setting.key_mode, setting.purge_path, setting.is_parent) == ("ban", "/p", True)
    assert "import xkey" not in fragment(setting)
    assert "unset resp.http.Surrogate-Key" not in fragment(setting)
    assert "import xkey" in fragment(setting._replace(key_mode="xkey"))


def test_which_headers_carry_tags_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "beresp.http.X-Magento-Tags" in fragment(Setting("varnish", "n", ["::1"]))
    said("render", "varnish", "--node", "n", "--tag-header", "X-Mine")
    printed = capsys.readouterr().out
    assert ("beresp.http.X-Mine" in printed, "beresp.http.Surrogate-Key" in printed) == (True, False)
    said("render", "varnish", "--node", "n", "--tag-header", "a b", code=2)
    assert "no name of a header" in capsys.readouterr().err


def test_a_varnish_tells_what_origins_invalidate_where_it_is_asked_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word in ("Cache-Group-Invalidation", "purgeline-groups", "beresp.http.x-purgeline-report"):
        assert word not in fragment(Setting("varnish", "n", ["::1"]))
        assert word in fragment(Setting("varnish", "n", ["::1"], group_reports=True))
    said("render", "varnish", "--node", "n", "--group-reports")
    assert 'std.log("purgeline-groups end")' in capsys.readouterr().out
    said("render", "squid", "--node", "n", "--group-reports", code=2)
    assert "--group-reports: squid tells nobody" in capsys.readouterr().err


def said(*words: object, code: int = 0) -> None:
    assert main([str(word) for word in words]) == code


def test_render_takes_what_the_configuration_says(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said("render", "nginx", "--config", config, "--node", "edge-1", "--from", "10.0.0.9")
    printed = capsys.readouterr().out
    assert "location ^~ /drop/ {" in printed
    assert "allow 10.0.0.9;" in printed
    said("render", "varnish", "--config", config, "--json")  # there is one
    document = json.loads(capsys.readouterr().out)
    assert (document["cache"], document["node"]) == ("varnish", "parent-1")
    assert "# a parent passes it on" not in document["lines"]


def test_without_a_name_the_place_of_the_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    said("render", "squid")
    printed = capsys.readouterr()
    assert f"squid {rendering.NO_NAME}" in printed.out
    assert f"replace {rendering.NO_NAME}" in printed.err


@pytest.mark.parametrize(
    ("cache", "node", "reason"),
    [
        ("nginx", None, "which one of edge-1, edge-2?"),
        ("nginx", "parent-1", "'parent-1' is no [[node]] with the driver 'nginx'; there is edge-1, edge-2"),
        ("squid", None, "no [[node]] has the driver 'squid'"),
    ],
)
def test_a_node_that_is_not_meant_is_refused(config: Path, cache: str, node: str | None, reason: str) -> None:
    args = argparse.Namespace(cache=cache, node=node, config=config, purge_from=None, key_mode=None)
    with pytest.raises(UsageError) as refused:
        rendering.render(args, Output(as_json=False))
    assert reason in str(refused.value)


def test_check_nodes_refuses_a_node_that_is_not_there(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said("check-nodes", "--config", config, "--node", "gone", code=2)
    assert "'gone' is no [[node]]; known: parent-1, edge-1, edge-2" in capsys.readouterr().err


def test_check_nodes_refuses_a_page_that_is_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said("check-nodes", "--config", config, "--url", "img.example.com/a b", code=2)
    assert "--url: 'img.example.com/a b' is not an absolute URL" in capsys.readouterr().err


def test_items_of_ip_allow_leave_the_rules_of_the_site_in_force() -> None:
    """The first rule that fits an address counts: one for all addresses would be the last that does."""
    lines = fragment(Setting("ats", "n", ["10.0.0.9"]))
    assert 'ip_addrs: "10.0.0.9"' in lines
    assert not [each for each in ("deny\n", "0/0", "\nip_allow:") if each in lines]
    alone = whole.whole_files(Setting("ats", "n", ["10.0.0.9"]), whole.Place([Backend("a", 1)]))
    (allowed,) = (file.text for file in alone if file.name == "ip_allow.yaml")
    assert allowed.index("ip_allow:\n") < allowed.index("10.0.0.9") < allowed.index("[0/0, ::/0]")


GENERATION = """
[[node]]
name = "a"
driver = "ats"
url = "http://127.0.0.1:1"
generation_header = "X-Generation"
generation_secret = "s3cret"
"""


def test_a_node_with_generations_is_told_the_end_of_its_remap_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "engine.toml").write_text(GENERATION)
    said("render", "ats", "--config", path)
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("@plugin"))
    assert line.startswith("@plugin=remap_purge.so @pparam=--state-file=/")
    assert line.endswith(" @pparam=--header=X-Generation @pparam=--secret=s3cret")


def test_a_written_secret_is_not_for_everybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "engine.toml").write_text(GENERATION)
    folder = tmp_path / "conf"
    said("render", "ats", "--config", path, "--whole", "--backend", "a:1", "--to", folder)
    assert "remap.config has the node's secret" in capsys.readouterr().err
    assert "--secret=s3cret" in (folder / "remap.config").read_text()
    assert (folder / "remap.config").stat().st_mode & 0o007 == 0
    assert (folder / "ip_allow.yaml").stat().st_mode & 0o004


def test_the_templates_are_found() -> None:
    """In the tree; the wheel has them inside the package."""
    assert (templates.folder() / "purge" / "varnish.vcl.j2").is_file()


@pytest.mark.parametrize("page", sorted(cache_docs.FOLDER.glob("*.md")), ids=lambda path: path.name)
def test_the_pages_of_caches_have_what_is_printed(page: Path) -> None:
    """Made again with ``python -m tests.cache_docs``."""
    text = page.read_text(encoding="utf-8")
    assert cache_docs.filled(text) == text
    assert text.count(": made by python -m tests.cache_docs -->") == MADE


def test_what_a_whole_one_needs_and_cannot_have(capsys: pytest.CaptureFixture[str]) -> None:
    said("render", "varnish", "--whole", code=2)
    assert "takes --backend HOST:PORT" in capsys.readouterr().err
    said("render", "varnish", "--whole", "--backend", "a", code=2)
    assert "no HOST:PORT" in capsys.readouterr().err
    said("render", "ats", "--whole", "--backend", "a:1", "--backend", "b:2", code=2)
    assert "ats takes one" in capsys.readouterr().err
    said("render", "ats", "--to", "x", code=2)
    assert "--backend, --port, --certificate and --to are for --whole" in capsys.readouterr().err
    tls = ("--whole", "--backend", "a:1", "--certificate", "/c.pem")
    said("render", "varnish", *tls, code=2)
    assert "Varnish has no TLS" in capsys.readouterr().err
    said("render", "nginx", *tls[:3], "--tls-port", "1", code=2)
    assert "--certificate-key and --tls-port are for --certificate" in capsys.readouterr().err


def test_the_route_of_canaries_is_at_the_port_where_visitors_come_in() -> None:
    node = NodeConfig(name="n", driver="ats", url="http://n:1", visit_url="https://n")
    config = Config(node=[node], canary=CanaryConfig(interval_s=60, listen="10.0.0.9:9190"))
    setting = setting_of(node, config, purge_from=["::1"], is_parent=False)
    assert "https://(.*):443/.well-known/purgeline/ http://10.0.0.9:9190/" in fragment(setting)


def test_files_that_are_there_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "remap.config").write_text("mine")
    said("render", "ats", "--whole", "--node", "n", "--backend", "a:1", "--to", tmp_path, code=2)
    assert "remap.config is there already; nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["remap.config"]
