"""What is said of a name that stands for one cache after the other."""

from __future__ import annotations

import pytest
from loguru import logger

from engine.nodes import lookups
from engine.nodes.address import Address
from engine.nodes.lookups import Lookups


@pytest.mark.parametrize(
    ("course", "told"), [("AAA", 0), ("ABBCC", 0), ("ABA", 1), ("ABCAB", 1), ("ABABABAB", 1)]
)
async def test_a_name_that_comes_back_to_an_address_is_told_once(
    monkeypatch: pytest.MonkeyPatch, course: str, told: int
) -> None:
    answers = iter(course)

    async def addresses_of(_address: Address) -> frozenset[str]:
        return frozenset({next(answers)})

    monkeypatch.setattr(lookups, "addresses_of", addresses_of)
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), format="{message}")
    name = Lookups(Address("cache.example", 80, None), said.append)
    try:
        for _ in course:
            await name.look()
    finally:
        logger.remove(sink)
    assert len(said) == told
    assert all("'cache.example' is A again" in text and "was" in text for text in said)
