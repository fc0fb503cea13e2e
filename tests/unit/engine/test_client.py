"""Who a client is: its token, and where it came from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.intake.client import Addresses, Caller
from engine.tasks.records import By


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "198.51.100.1", "10.0.0.1"),
        (("10.0.0.0/24",), "", "10.0.0.1"),
        (("10.0.0.0/24",), "198.51.100.1", "198.51.100.1"),
        (("10.0.0.0/24",), "203.0.113.9, 198.51.100.1,10.0.0.2", "198.51.100.1"),
        (("10.0.0.0/24",), "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (("10.0.0.1",), "198.51.100.1, 10.0.0.2", "10.0.0.2"),
        (("10.0.0.0/24",), "198.51.100.1:4711", "198.51.100.1"),
        (("10.0.0.0/24",), "[2001:db8::1]:4711", "2001:db8::1"),
        (("10.0.0.0/24",), "2001:db8::1", "2001:db8::1"),
        (("10.0.0.0/24",), "198.51.100.1, nonsense", "10.0.0.1"),
        (("192.0.2.0/24",), "198.51.100.1", "10.0.0.1"),
    ],
)
def test_a_client_is_who_the_first_untrusted_hop_is(
    trusted: tuple[str, ...], forwarded: str, address: str
) -> None:
    assert Addresses(trusted).of("10.0.0.1", forwarded) == address


def test_what_a_client_wrote_before_its_own_address_does_not_count() -> None:
    """Thousands of hops are looked at no further than the last few."""
    assert Addresses(("10.0.0.1",)).of("10.0.0.1", "1.1.1.1," * 9999 + "198.51.100.1") == "198.51.100.1"


def test_a_connection_keeps_its_client_while_token_and_hops_stay_the_same() -> None:
    caller = Caller(Addresses(("10.0.0.1",)), ("10.0.0.1", 4711))
    token: Any = SimpleNamespace(name="cms")
    first = caller.client(token, b"192.0.2.7")
    assert first.by == By("cms", "192.0.2.7", "http")
    assert caller.client(token, b"192.0.2.7") is first
    assert caller.client(token, b"192.0.2.8").by.address == "192.0.2.8"
    assert caller.client(SimpleNamespace(name="ci"), b"192.0.2.8").by.token == "ci"  # type: ignore[arg-type]


@pytest.mark.parametrize("peername", [None, "", "/run/x.sock", ()])
def test_a_connection_without_an_address_has_none(peername: object) -> None:
    assert Caller(Addresses(), peername).by("cms", b"") == By("cms", "", "http")


def test_a_client_is_the_same_object_on_all_its_connections() -> None:
    addresses = Addresses()
    first, second = (Caller(addresses, ("10.0.0.1", port)) for port in (4711, 4712))
    other = Caller(addresses, ("10.0.0.2", 4711))
    assert first.by("cms", b"") is second.by("cms", b"")
    assert first.by("cms", b"") != other.by("cms", b"") != second.by("", b"")


def test_a_trusted_proxy_is_trusted_on_a_socket_of_both_kinds_too() -> None:
    """Else the proxy itself would be the client, and whatever address it names could purge."""
    caller = Caller(Addresses(("10.0.0.1",)), ("::ffff:10.0.0.1", 4711, 0, 0))
    assert caller.by("cms", b"203.0.113.9").address == "203.0.113.9"
    assert caller.by("cms", b"").address == "10.0.0.1"
    assert Caller(Addresses(), ("2001:db8::1", 4711, 0, 0)).by("", b"").address == "2001:db8::1"
