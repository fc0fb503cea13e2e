"""The assembly of the tree: the nodes that are engines, and what engines above this one are answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.background import Background
from engine.nodes import drivers
from engine.process.names import engine_name
from engine.proof.receipt_key import KeyFolder
from engine.tasks.words import Operation
from engine.tree.asking import Hello
from engine.tree.below import Below
from engine.tree.census import Census
from engine.tree.desk import Desk
from engine.tree.inspection import link_to
from engine.tree.place import Place
from engine.tree.way_out import WayOut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.nodes.node import Node
    from engine.process.core import Core
    from engine.proof.signer import Signer
    from engine.tree.link import Link


@dataclass(frozen=True)
class Tree:
    """This engine's place, and the desks of the nodes that are engines, by their names."""

    place: Place
    desks: dict[str, Desk] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    censuses: dict[str, Census] = field(default_factory=dict)
    work: Background = field(default_factory=Background)

    @property
    def below(self) -> Below:
        """What answers for these nodes."""
        return Below(self.links, self.censuses, self.place)

    def start(self) -> None:
        """Begin to ask the nodes for their leaves."""
        for census in self.censuses.values():
            self.work.start(census.keep_up())

    def cancelled(self, stored: Mapping[str, Any]) -> None:
        """Have the nodes told, of which some of a stored task waits, that it is cancelled."""
        for node in stored.get("nodes", ()):
            desk = self.desks.get(node["name"])
            if desk is not None and node.get("delayed"):
                desk.taking_back.take(stored["task_id"], (Operation.PURGE_URL, Operation.PREFETCH))

    def stop(self) -> None:
        """Ask nothing more."""
        self.work.cancel()
        for desk in self.desks.values():
            desk.close()

    async def close(self) -> None:
        """Close the connections."""
        for desk in self.desks.values():
            await desk.end()


def make_tree(core: Core, signer: Signer) -> Tree:
    """Return the tree of an engine whose nodes are made; nothing is asked yet.

    Raises:
        ConfigError: a file of a node cannot be read, or what checks signatures is not installed.
    """
    settings = core.config.engine
    place = Place(signer, KeyFolder(Path(settings.data_dir)), core.reader, engine=engine_name(core.config))
    tree = Tree(place)
    for node in core.nodes.values():
        if drivers.is_engine(node.config):
            link = tree.links[node.name] = link_to(node.config, settings)
            link.above = place.above
            desk = tree.desks[node.name] = _desk(node, link, core, place)
            tree.censuses[node.name] = Census(link, place, node, desk.questions.note_version)
    return tree


def _desk(node: Node, link: Link, core: Core, place: Place) -> Desk:
    has_second = bool(node.config.parents) or core.is_shared
    desk = Desk(node, link, place, core.stats, has_second=has_second)
    slack_s = core.config.engine.retention_days * 43200
    for channel in node.channels.all:
        way = WayOut(channel, desk, node.health, node.keeping, late_slack_s=slack_s)
        channel.opened(way)
        channel.on_forgotten = way.cancelled
    hello = Hello(link, place, node.proving.judge, node.name, desk.questions.note_version)
    node.proving.ask_by(hello.ask)
    return desk
