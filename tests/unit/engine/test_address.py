"""Where a node listens, from its URL."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from engine.config.load import parse
from engine.config.tables import NodeConfig, OriginConfig
from engine.errors import ConfigError
from engine.nodes.address import Address, SeveralAddressesError, address_of, addresses_of
from engine.proof.visitor import origin_address


def node(url: str, **keys: bool) -> NodeConfig:
    return NodeConfig(name="n", driver="ats", url=url, **keys)  # type: ignore[arg-type]


def test_the_port_is_the_schemes_unless_the_url_names_one() -> None:
    assert address_of(node("http://127.0.0.1")) == ("127.0.0.1", 80, None, None)
    assert address_of(node("http://[::1]:8080")) == ("::1", 8080, None, None)


def test_an_https_node_is_verified_unless_its_table_says_otherwise() -> None:
    host, port, context, _ = address_of(node("https://cache.example"))
    assert (host, port) == ("cache.example", 443)
    assert context is not None
    assert context.check_hostname
    https = "https://cache.example:8443"
    origin = OriginConfig(host="*", url=https, tls_verify=False)
    for unverified in (
        address_of(node(https, tls_verify=False)),
        address_of(node(https, verify=False)),  # as versions before call it
        origin_address(origin),
    ):
        assert unverified.port == 8443
        assert unverified.tls is not None
        assert not unverified.tls.check_hostname


def test_a_node_takes_the_old_or_the_new_name_of_its_tls_check() -> None:
    table = {"name": "n", "driver": "ats", "url": "https://cache.example", "verify": True}
    assert parse({"node": [table]}).node[0].checks_tls
    with pytest.raises(ConfigError, match="verify is the old name of tls_verify: give one of them"):
        parse({"node": [{**table, "tls_verify": False}]})


async def found(monkeypatch: pytest.MonkeyPatch, host: str, *places: tuple[int, str]) -> frozenset[str]:
    """Look *host* up where these are its addresses, with their families."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(family, 1, 6, "", (address, 80)) for family, address in places]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return await addresses_of(Address(host, 80, None))


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    several = ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.2"))
    assert await found(monkeypatch, "127.0.0.1", *several) == {"127.0.0.1"}
    assert await found(monkeypatch, "::1", *several) == {"::1"}


async def test_a_name_with_an_address_of_each_family_is_one_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    places = ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.1"))
    assert await found(monkeypatch, "localhost", *places) == {"::1", "127.0.0.1"}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_a_name_with_several_addresses_of_a_family_is_several_caches(
    monkeypatch: pytest.MonkeyPatch, family: int
) -> None:
    with pytest.raises(SeveralAddressesError, match=r"'edge' has several addresses \(a, b\), and only one"):
        await found(monkeypatch, "edge", (family, "b"), (family, "a"))
