"""Which engines are remembered as above this one, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import RequestError
from engine.intake.auth import Token
from engine.intake.host_rules import HostRules
from engine.proof.receipt_key import ReceiptKey
from engine.tree import place as place_module
from engine.tree.place import Place
from engine.tree.sealing import check_path
from engine.tree.words import ABOVE, PATH

OWN = "o" * 43


def entry(name: str) -> str:
    return f"{name}~{name[:1] * 43}"


class _Keys:
    """This engine's key, and those of its place."""

    own = ReceiptKey(OWN, b"1" * 32)

    async def keys(self) -> list[dict[str, str]]:
        return [{"x": "x", "kid": OWN}]

    async def read(self, what: Any) -> Any:
        return what


class _Request:
    def __init__(self, path: str, above: str = "") -> None:
        self.headers = {PATH: path, ABOVE: above}


def place() -> Place:
    keys: Any = _Keys()
    return Place(keys, keys, keys, engine="eu")


def token(*scopes: str, is_limited: bool = False) -> Token:
    return Token("t", frozenset(scopes), HostRules([]), is_limited=is_limited)


async def check(own: Place, path: str, above: str = "", by: Token | None = None) -> None:
    request: Any = _Request(path, above)
    await check_path(own, request, by)


async def test_who_may_hand_tasks_of_all_sites_down_is_above() -> None:
    own = place()
    await check(own, entry("root"), entry("top"), token("submit", "read"))
    assert own.above() == f"{entry('root')},{entry('top')}"


@pytest.mark.parametrize("by", [None, token("read"), token("submit", "read", is_limited=True)])
async def test_nobody_else_is(by: Token | None) -> None:
    """Its word would have the engines below this one refuse what comes from here."""
    own = place()
    await check(own, entry("root"), entry("de"), by)
    assert own.above() == ""


async def test_what_has_been_here_is_refused_with_its_path_whoever_brings_it() -> None:
    own = place()
    for path, above in ((f"{entry('root')},eu~{OWN}", ""), (entry("root"), f"eu~{OWN}")):
        with pytest.raises(RequestError, match="loop: ") as refused:
            await check(own, path, above, token("submit"))
        assert refused.value.status == 409
    assert own.above() == ""


@pytest.mark.parametrize(
    "wrong", ["", "root", "root~k", f"ro ot~{OWN}", f"r\u00f6~{OWN}", f"a~b~{OWN}", "x" * 9000]
)
async def test_a_path_is_of_engines_with_their_keys(wrong: str) -> None:
    with pytest.raises(RequestError, match="Purgeline-Tree-Path: takes") as refused:
        await check(place(), wrong, by=token("submit"))
    assert refused.value.status == 422
    if wrong:
        with pytest.raises(RequestError, match="takes the engines"):
            await check(place(), entry("root"), wrong, token("submit"))


async def test_the_oldest_are_forgotten_first_and_all_that_are_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = place()
    for number in range(100):
        await check(own, entry(f"{number:03}"), by=token("submit"))
    known = own.above().split(",")
    assert (len(known), known[0], known[-1]) == (64, entry("099"), entry("036"))
    monkeypatch.setattr(place_module, "_ABOVE_S", -1.0)
    assert own.above() == ""


async def test_what_is_told_of_them_fits_in_a_header() -> None:
    own = place()
    for number in range(64):
        await check(own, f"{number:02}{'n' * 200}~{OWN[1:]}x", by=token("submit"))
    told = own.above()
    assert 2000 < len(told) <= 4096
    assert told.startswith("63n")
