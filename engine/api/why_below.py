"""What leaves serve of a URL, by the answers of the engines that they are nodes of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from engine.api.below import MARK, Order, is_leaf, one_line
from engine.api.why_answer import WhyNode
from engine.proof.whole import DONE, Conclusion, Told

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aiohttp import web

    from engine.api.below import Below, Said

LEAVES_MAX: Final = 2000  #: of a region, that are shown


class WhyRegion(msgspec.Struct):
    """What a node that is an engine said of its leaves."""

    name: str
    leaves: Annotated[int, Meta(description="that it looked at")]
    conclusion: Conclusion
    sentence: str
    error: Annotated[str, Meta(description="why it said nothing; empty: it did")]
    incomplete: Annotated[str, Meta(description="why purges, leaves or regions below it may be missing")]


class _Answer(msgspec.Struct):
    """``Why`` of a region, as far as it is taken over."""

    nodes: list[WhyNode]
    conclusion: Conclusion
    sentence: str
    can_fill: list[str] = []
    incomplete: str = ""


class FromBelow(NamedTuple):
    """What all regions said."""

    regions: Sequence[WhyRegion]
    nodes: Sequence[WhyNode]  #: leaves, and regions that said nothing
    told: Sequence[Told]  #: of these nodes, in their order
    can_fill: Sequence[str]


_WORD: Final = re.compile(r"(?<![^\s`(])[A-Za-z0-9][A-Za-z0-9._/-]*")
_decode: Final = msgspec.json.Decoder(_Answer).decode


async def why_below(
    below: Below, url: str, request: web.Request, *, tasks: Sequence[str] | None, by: str
) -> FromBelow:
    """Ask all regions at once why their leaves serve what they serve.

    Args:
        below: asks.
        url: in stored form.
        request: that is answered.
        tasks: ids of the purges that count; None: all do.
        by: name of the client's token.
    """
    query = {"url": url} | ({} if tasks is None else {"tasks": ",".join(tasks)})
    said = await below.ask(list(below.regions), f"/v1/engine/why?{urlencode(query)}", request, Order(by))
    parts = [_read(one) for one in said]
    return FromBelow(
        [region for region, _ in parts],
        [node for _, answer in parts for node in answer.nodes],
        [_told(node) for _, answer in parts for node in answer.nodes],
        [name for _, answer in parts for name in answer.can_fill],
    )


def _read(said: Said) -> tuple[WhyRegion, _Answer]:
    region = said.node
    if said.error:
        return _silent(region, said.error)
    try:
        answer = _decode(said.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return _silent(region, f"its answer cannot be read: {exc}")
    incomplete = one_line(answer.incomplete)
    names = {node.name for node in answer.nodes}
    nodes = [_named(region, node, names) for node in answer.nodes if is_leaf(node.name)]
    if len(nodes) > LEAVES_MAX or len(nodes) < len(answer.nodes):
        shown = min(len(nodes), LEAVES_MAX)
        incomplete = incomplete or f"{shown} of its {len(answer.nodes)} leaves are shown"
    fill = [region + MARK + name for name in answer.can_fill if is_leaf(name)]
    sentence = _sentence(region, one_line(answer.sentence), names)
    whole = WhyRegion(region, len(nodes), answer.conclusion, sentence, "", incomplete)
    return whole, _Answer(nodes[:LEAVES_MAX], answer.conclusion, sentence, fill[:LEAVES_MAX])


def _silent(region: str, error: str) -> tuple[WhyRegion, _Answer]:
    """Return what stands for a region of which nobody knows what its leaves serve."""
    why = f"nobody knows what the caches below {region} serve, because its engine does not tell: {error}"
    sentence = f"{why}; next: `purgeline nodes --leaves`"
    node = WhyNode(
        name=region,
        layer="",
        driver="engine",
        state="unknown",
        conclusion=Conclusion.UNREACHABLE,
        sentence=sentence,
        answers=[],
        error=error,
        filled=False,
    )
    whole = WhyRegion(region, 0, Conclusion.UNREACHABLE, sentence, error, "")
    return whole, _Answer([node], Conclusion.UNREACHABLE, sentence)


def _named(region: str, node: WhyNode, names: Collection[str]) -> WhyNode:
    """Return a leaf as it is called here; no text of another engine has lines or control characters."""
    return msgspec.structs.replace(
        node,
        name=region + MARK + node.name,
        layer=one_line(node.layer),
        driver=one_line(node.driver),
        state=one_line(node.state),
        sentence=_sentence(region, one_line(node.sentence), names),
        error=one_line(node.error),
    )


def _sentence(region: str, sentence: str, names: Collection[str]) -> str:
    """Return a region's sentence with its leaves named as they are here."""

    def named(word: re.Match[str]) -> str:
        name, dots = word[0].rstrip("."), word[0][len(word[0].rstrip(".")) :]
        is_it = name in names and (word.start() == 0 or not name.isalpha())  # such a one may be a mere word
        return f"{region}{MARK}{name}{dots}" if is_it else word[0]

    said = _WORD.sub(named, sentence)
    whose = said if region + MARK in said else f"in {region}: {said}"
    if "--config " in whose:  # what reads a file of an engine
        return f"{whose} (where the engine of {region} is)"
    return whose


def _told(node: WhyNode) -> Told:
    """Return a node's conclusion as that of the whole is made of it."""
    is_open = node.open or (node.conclusion is Conclusion.FRESH and not node.sentence.endswith(DONE))
    what, _, step = node.sentence.rpartition("; ")
    return Told(node.conclusion, node.sentence, what.partition(": ")[2], step, is_open=is_open)
