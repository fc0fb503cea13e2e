"""``purgeline check-nodes``: whether the nodes do the purges that they answer, and what to change if not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.cli.cells import CHECK_COLUMNS
from engine.cli.exits import DONE, FAILED, UNREACHABLE, UsageError
from engine.cli.rendering import ENGINE_HERE, is_parent

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output
    from engine.client.bodies import Document
    from engine.config.tables import Config, NodeConfig
    from engine.nodes.findings import Finding

_CHANGES: Final = {
    "refused": "let the engine's address in, and no proxy on the way add Via, X-Varnish or X-Forwarded-For: "
    "these lines have the rules",
    "forwarded": "let the cache answer purges itself, and mark its answers: these lines do both",
    "unproven": "let the cache mark its answers: these lines do",
}
_BY_DRIVER: Final = {
    (
        "ats",
        "forwarded",
    ): "ATS passes purges on with caching off (proxy.config.http.cache.http 0), or under another "
    "purge_method than PURGE. These lines mark its answers, and make errors of those",
    (
        "squid",
        "forwarded",
    ): "Squid passes on methods that it does not know: let purge_method be PURGE. These lines "
    "mark its answers",
}


def check_nodes(args: argparse.Namespace, out: Output) -> int:
    """Ask all nodes, print a line each, and for those that are not proven what to change."""
    import asyncio  # noqa: PLC0415 - only this command needs the nodes

    from engine.config.load import load  # noqa: PLC0415 - as above

    config = load(args.config)
    chosen = _chosen(config, args.node)
    findings = asyncio.run(_inspected(config, chosen, _page(args.url)))
    documents = [
        _document(node, finding, args.purge_from or [ENGINE_HERE], config)
        for node, finding in zip(chosen, findings, strict=True)
    ]
    if out.as_json:
        out.json({"nodes": documents})
    else:
        out.listing({"nodes": documents}, "nodes", CHECK_COLUMNS)
        _say_changes(documents, out, args.config)
    verdicts = {document["verdict"] for document in documents}
    if "unreachable" in verdicts:
        return UNREACHABLE
    return DONE if verdicts <= {"proven", "trusted"} else FAILED


async def _inspected(config: Config, chosen: list[NodeConfig], url: str) -> list[Finding]:
    """Return what is found of each node: caches are asked for purges, engines for nothing, signed."""
    import asyncio  # noqa: PLC0415 - only this command needs the nodes

    from engine.nodes import drivers  # noqa: PLC0415 - as above
    from engine.nodes.inspection import inspect_all  # noqa: PLC0415 - as above
    from engine.tree.inspection import inspect_engine  # noqa: PLC0415 - as above

    caches = [node for node in chosen if not drivers.is_engine(node)]
    engines = [node for node in chosen if drivers.is_engine(node)]
    of_caches, of_engines = await asyncio.gather(
        inspect_all(config, caches, url=url),
        asyncio.gather(*(inspect_engine(node, config.engine) for node in engines)),
    )
    found = {node.name: finding for node, finding in zip(caches, of_caches, strict=True)}
    found |= {node.name: finding for node, finding in zip(engines, of_engines, strict=True)}
    return [found[node.name] for node in chosen]


def _chosen(config: Config, names: list[str]) -> list[NodeConfig]:
    known = {node.name: node for node in config.node}
    for name in names:
        if name not in known:
            raise UsageError(f"--node: {name!r} is no [[node]]; known: {', '.join(known) or 'none'}")
    return [node for node in config.node if not names or node.name in names]


def _page(url: str | None) -> str:
    """Return the page as targets are stored; it is sent to caches as one of them is."""
    from engine.errors import RequestError  # noqa: PLC0415 - as above
    from engine.intake.urls import normalise_url  # noqa: PLC0415 - as above

    if url is None:
        return ""
    try:
        return normalise_url(url, "--url")[0]
    except RequestError as exc:
        raise UsageError(str(exc)) from exc


def _document(node: NodeConfig, finding: Finding, engines: list[str], config: Config) -> Document:
    from engine.cli.fragments import fragment, setting_of, without_secret  # noqa: PLC0415 - as above
    from engine.nodes import drivers  # noqa: PLC0415 - as above

    verdict = str(finding.verdict)
    if drivers.is_engine(node):
        told = {"name": node.name, "driver": node.driver, "url": node.url, "verdict": verdict}
        return {**told, "why": finding.why, "notes": [], "change": "", "lines": ""}
    change = _BY_DRIVER.get((node.driver, verdict)) or _CHANGES.get(verdict, "")
    setting = setting_of(node, config, purge_from=engines, is_parent=is_parent(node, config))
    return {
        "name": node.name,
        "driver": node.driver,
        "url": node.url,
        "verdict": verdict,
        "why": finding.why,
        "notes": [*drivers.notes(node), *drivers.untried(node)],
        "change": change,
        "lines": fragment(without_secret(setting)) if change else "",
    }


def _say_changes(documents: list[Document], out: Output, config: object) -> None:
    """Print what to change at each node, with the lines of the first one of each driver."""
    shown: set[str] = set()
    for document in documents:
        name, driver = document["name"], document["driver"]
        if not document["change"]:
            continue
        out.text(f"\n# {name} ({driver}): {document['change']}\n")
        if driver in shown:
            out.text(f"# purgeline render {driver} --node {name} --config {config}\n")
        else:
            shown.add(driver)
            out.text(f"\n{document['lines']}")
