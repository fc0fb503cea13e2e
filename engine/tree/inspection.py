"""Whether a node that is an engine answers as one that tasks may be handed to, without an engine here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from engine.api.below import one_line
from engine.errors import ConfigError, EngineError
from engine.nodes.findings import Finding, Verdict
from engine.tree.link import Link, LinkError, RefusedError
from engine.tree.seal import SealError, Trusted
from engine.tree.words import ASK, VERSION, Answer, Question

if TYPE_CHECKING:
    from engine.config.tables import EngineConfig, NodeConfig

_PATH: Final = f"check-nodes~{0:043}"  #: of nobody's key, so it is no loop
_decode: Final = msgspec.json.Decoder(Answer).decode


def link_to(node: NodeConfig, settings: EngineConfig) -> Link:
    """Return the way to a node that is an engine.

    Raises:
        ConfigError: a file of it cannot be read, or what checks signatures is not installed.
    """
    try:
        trusted = None if node.evidence == "any" else Trusted(node.public_keys, node.name)
        return Link(
            node,
            _token_of(node),
            trusted,
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.request_timeout_s,
        )
    except (OSError, EngineError) as exc:
        raise ConfigError(f"node {node.name!r}: {exc}") from exc


def _token_of(node: NodeConfig) -> str:
    if not node.token_file:
        return node.token
    return Path(node.token_file).read_text(encoding="utf-8").strip()


async def inspect_engine(node: NodeConfig, settings: EngineConfig) -> Finding:
    """Ask it nothing, and look at how it answers.

    Raises:
        ConfigError: see `link_to`.
    """
    link = link_to(node, settings)
    try:
        return await _inspect(link, node)
    finally:
        await link.close()


async def _inspect(link: Link, node: NodeConfig) -> Finding:
    try:
        said = await link.post(ASK, msgspec.json.encode(Question(leaves="")), path=_PATH)
        answer = _decode(said.body)
    except LinkError as exc:
        return Finding(Verdict.SICK if exc.is_sick else Verdict.UNREACHABLE, one_line(str(exc)))
    except RefusedError as exc:
        return Finding(Verdict.REFUSED, one_line(str(exc)))
    except SealError as exc:
        return Finding(Verdict.UNPROVEN, one_line(str(exc)))
    except msgspec.DecodeError as exc:
        return Finding(Verdict.SICK, one_line(f"its answer cannot be read: {exc}"))
    leaves = 0 if answer.leaves is None else len(answer.leaves.leaves) + answer.leaves.left_out
    what = f"the engine {one_line(answer.engine)} ({one_line(answer.release)}) with {leaves} caches below"
    if answer.version < 1:
        return Finding(Verdict.SICK, f"{what} speaks no version of the tree that {VERSION} knows")
    if link.trusted is None:
        return Finding(Verdict.TRUSTED, f'{what} answers; its key is not asked for (evidence = "any")')
    return Finding(Verdict.PROVEN, f"{what} answers, signed by one of its public_keys ({node.url})")
