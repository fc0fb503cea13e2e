"""What the name in a node's URL stands for: looked up at the start, and now and again.

A node is one cache. A name that comes to stand for several would have one of them purged and the others not,
so the node is down until that is mended; one that comes to stand for another cache leaves no connection to
the cache before. A name service that gives several addresses in turn looks like a cache that moves to and
fro: that is said once, for nobody can tell the two apart.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from engine.errors import ConfigError
from engine.nodes import drivers
from engine.nodes.address import SeveralAddressesError, address_of, addresses_of, is_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address

LOOKUP_EVERY_S: Final = 60.0
_SEEN_MAX: Final = 16


class Leaver(Protocol):
    """What has connections to the node."""

    def leave(self, addresses: frozenset[str]) -> None:
        """Close the connections that go to none of *addresses*."""


class Lookups:
    """Looks one node's name up; an address needs none.

    Args:
        address: of the node.
        on_several: told why the node cannot be purged, each time that its name stands for several caches.
    """

    def __init__(self, address: Address, on_several: Callable[[str], None]) -> None:
        self._address = address
        self._on_several = on_several
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Task[None] | None = None
        self.channels: Sequence[Leaver] = ()
        self._seen: list[frozenset[str]] = []  # what the name stood for, the latest last; each once
        self._is_told = False

    def start(self) -> None:
        """Begin."""
        if self._running is None and not is_literal(self._address.host):
            self._running = self._loop.create_task(self._look_for_ever())

    def close(self) -> None:
        """Stop looking."""
        if self._running is not None:
            self._running.cancel()

    async def look(self) -> None:
        """Look once. A name that cannot be looked up at the moment is left to the next connection."""
        try:
            addresses = await addresses_of(self._address)
        except SeveralAddressesError as exc:
            self._on_several(str(exc))
        except OSError:
            return
        else:
            self._note(addresses)
            for channel in self.channels:
                channel.leave(addresses)

    def _note(self, addresses: frozenset[str]) -> None:
        """Say when the name stands for what it had left."""
        seen = self._seen
        if addresses in seen[:-1] and not self._is_told:
            self._is_told = True
            from loguru import logger  # noqa: PLC0415 - check-config looks names up, and writes no log

            logger.warning(
                "{!r} is {} again, and was {} meanwhile: only the one of the moment is purged. If both are "
                "caches, each needs a [[node]] of its own",
                self._address.host,
                ", ".join(sorted(addresses)),
                ", ".join(sorted(seen[-1])),
            )
        self._seen = [*(one for one in seen if one != addresses), addresses][-_SEEN_MAX:]

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOKUP_EVERY_S)


async def look_up_all(nodes: Sequence[NodeConfig]) -> list[str]:
    """Look up the names of all *nodes*; return a line for each that is not known here.

    Raises:
        ConfigError: a name stands for several caches, or a CA file cannot be read.
    """

    async def look(node: NodeConfig) -> str:
        if drivers.is_engine(node):
            return ""
        try:
            address = address_of(node)
        except OSError as exc:
            raise ConfigError(f"node {node.name!r}: ca_file: {exc}") from exc
        try:
            await addresses_of(address)
        except SeveralAddressesError as exc:
            raise ConfigError(f"node {node.name!r}: url: {exc}") from exc
        except OSError as exc:
            return f"node {node.name!r}: {address.host!r} cannot be looked up here: {exc}"
        return ""

    return [text for text in await asyncio.gather(*map(look, nodes)) if text]
