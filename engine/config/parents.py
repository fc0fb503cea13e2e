"""The parents of each node: those it names, and where it names none every node of the layer before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from engine.config.tables import Config, NodeConfig


def with_parents(config: Config) -> Config:
    """Return a checked configuration whose nodes all have their ``parents``, none of them None."""
    nodes = [msgspec.structs.replace(node, parents=_parents_of(node, config)) for node in config.node]
    return msgspec.structs.replace(config, node=nodes)


def _parents_of(node: NodeConfig, config: Config) -> list[str]:
    if node.parents is not None:
        return node.parents
    layers = [layer.name for layer in config.layer] or [node.layer]
    for layer in reversed(layers[: layers.index(node.layer)]):
        above = [other.name for other in config.node if other.layer == layer]
        if above:
            return above
    return []
