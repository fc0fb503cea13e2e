"""Where a node listens, from its URL."""

from __future__ import annotations

from engine.config.tables import NodeConfig
from engine.nodes.address import address_of


def node(url: str, *, verify: bool = True) -> NodeConfig:
    return NodeConfig(name="n", driver="ats", url=url, verify=verify)


def test_the_port_is_the_schemes_unless_the_url_names_one() -> None:
    assert address_of(node("http://127.0.0.1")) == ("127.0.0.1", 80, None)
    assert address_of(node("http://[::1]:8080")) == ("::1", 8080, None)


def test_an_https_node_is_verified_unless_its_table_says_otherwise() -> None:
    host, port, context = address_of(node("https://cache.example"))
    assert (host, port) == ("cache.example", 443)
    assert context is not None
    assert context.check_hostname
    unverified = address_of(node("https://cache.example:8443", verify=False))
    assert unverified.port == 8443
    assert unverified.tls is not None
    assert not unverified.tls.check_hostname
