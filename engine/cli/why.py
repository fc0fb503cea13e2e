"""``purgeline why URL``: what every node serves, beside the origin, and one sentence that says why."""

from __future__ import annotations

from engine.cli.cells import PURGE_COLUMNS, WHY_COLUMNS
from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from typing import Any, Final

    from engine.cli.screen import Output
    from engine.client.bodies import Document

TIMEOUT_S: Final = 60.0  #: caches are asked, and one that trickles is waited for
_WELL: Final = frozenset({"fresh", "not_cached"})
_DIGEST_SHOWN: Final = 12
_SECTIONS: Final = {"nodes": ("node", WHY_COLUMNS), "purges": ("purge", PURGE_COLUMNS)}


def why(args: argparse.Namespace, out: Output) -> int:
    """Print the table, the purges, and the sentence; the exit code says whether visitors get the new page."""
    args.timeout = args.timeout or TIMEOUT_S
    with connect(args, out) as client:
        document = client.why(args.url)
    if out.as_json:
        out.json(document)
    else:
        rows = [*_origin(document), *map(_row, document["nodes"])]
        purges = [{**purge, "nodes": list(map(_outcome, purge["nodes"]))} for purge in document["purges"]]
        out.sections({"url": document["url"], "nodes": rows, "purges": purges}, _SECTIONS)
        for node in document["nodes"]:
            if node["conclusion"] not in _WELL and node["sentence"] != document["sentence"]:
                out.mapping({node["name"]: node["sentence"]})
        out.mapping({"conclusion": document["conclusion"], "why": document["sentence"]})
        if incomplete := document.get("incomplete"):
            out.notice(f"warning: some purges may be missing: {incomplete}")
        for region in document.get("regions", ()):
            if region["incomplete"]:
                out.notice(f"warning: {region['name']} does not tell all: {region['incomplete']}")
        if document["can_fill"]:
            out.notice(f"{document['note']}: {', '.join(document['can_fill'])}")
    return DONE if document["conclusion"] in _WELL else FAILED


def _origin(document: Document) -> list[Document]:
    origin = document["origin"]
    if origin is None:
        return []
    return [{"name": "origin", "error": origin["error"], **_cells(origin["answers"])}]


def _row(node: Document) -> Document:
    return {**node, **_cells(node["answers"])}


def _cells(answers: list[Document]) -> dict[str, Any]:
    if not answers:
        return {}
    shown = answers[0]
    digest = shown["digest"]
    return {**shown, "digest": digest[:_DIGEST_SHOWN] if digest else None}


def _outcome(node: Document) -> str:
    return f"{node['name']}:{node['outcome']}"
