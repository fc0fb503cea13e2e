"""How the demo shows that a purge reaches what visitors get, and what does not: canaries, and `why`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from release.demo.program import wait_until
from release.demo.screen import INDENT
from release.demo.stage import CANARY_INTERVAL_S, SITE

if TYPE_CHECKING:
    from release.demo.screen import StoryScreen
    from release.demo.stage import Stage

_LYING: Final = 'sub vcl_recv { if (req.method == "PURGE") { return (synth(200, "Purged")); } }'


def canaries(stage: Stage, screen: StoryScreen) -> dict[str, float]:
    """Have a wrong VCL found by a canary; return the time to fresh of each node before, in seconds.

    Raises:
        ClaimError: something is not as it should be.
    """
    screen.step("A wrong VCL, found before a visitor finds it")
    if not stage.has_canaries:
        screen.say("This takes a real Varnish and nginx: the built-in proxy does not fetch canaries.")
        return {}
    screen.say(
        "With two lines more in engine.toml the engine fills each cache with an object of its own, changes "
        "it, purges it as it purges pages, and visits it, again and again:"
    )
    screen.output(f"[canary]\ninterval_s = {CANARY_INTERVAL_S:g}")
    with screen.waiting("the first canaries"):
        stage.turn_canaries_on()
        wait_until(lambda: set(_states(stage).values()) == {"fresh"}, what="fresh canaries")
    measured = {node.name: _canary(stage, node.name)["kinds"]["url"]["fresh_s"] for node in stage.nodes}
    _show(stage, screen)
    purged = len(stage.ask("/v1/engine/tasks")["tasks"])
    screen.say(
        "\nNow a line gets into the VCL of edge-1. It answers every purge with 200, and purges nothing:"
    )
    screen.output(_LYING)
    with screen.waiting("Varnish starting, and a canary"):
        stage.change_vcl("edge-1", _LYING)
        wait_until(lambda: _states(stage)["edge-1"] == "stale", what="a stale canary at edge-1")
    _show(stage, screen)
    screen.say(f"\n{_canary(stage, 'edge-1')['reason']}.")
    screen.claim("edge-1's canary is", "stale", _states(stage)["edge-1"])
    others = {state for name, state in _states(stage).items() if name != "edge-1"}
    screen.claim("the other nodes' canaries are", "fresh", ", ".join(others))
    tasks = stage.ask("/v1/engine/tasks")["tasks"]
    screen.claim("purges of pages that were acked in vain by then:", 0, len(tasks) - purged)
    return measured


def why(stage: Stage, screen: StoryScreen, page: str) -> None:
    """Have a page stale at the node that lies, and ask why.

    Raises:
        ClaimError: something is not as it should be.
    """
    if not stage.has_canaries:
        return
    screen.step("Why is this page stale?")
    old = stage.node("edge-1").get(page).content
    stage.origin.set(SITE, page, b"logo v4")
    screen.say("With that line still in, the page changes, and is purged. Every node acks:")
    printed = stage.purgeline(f"purge http://{SITE}{page} --wait", width=screen.width, is_terminal=False)
    screen.claim("exit code of the purge", 0, printed.exit_code)
    seen = {node.name: node.get(page).content for node in stage.nodes}
    fresh = dict.fromkeys(seen, "logo v4")
    screen.claim("edge-1 alone serves the old page", fresh | {"edge-1": old}, seen)
    words = f"why http://{SITE}{page}"
    screen.command(f"purgeline {words}")
    printed = stage.purgeline(words, width=screen.width - len(INDENT), is_terminal=screen.is_terminal)
    screen.output(printed.output)
    screen.claim("exit code", 1, printed.exit_code)
    screen.claim("the sentence names edge-1", True, "edge-1" in printed.plain.split("why")[-1])


def time_to_fresh(measured: dict[str, float], screen: StoryScreen) -> None:
    """Say what was measured, if anything was: the demo's last sentence."""
    if not measured:
        return
    name, slowest_s = max(measured.items(), key=lambda pair: pair[1])
    screen.say(
        f"\nTime to fresh: {slowest_s * 1000:.1f} ms after its purge the slowest of {len(measured)} nodes, "
        f"{name}, served visitors the new object, measured by a canary."
    )


def _canary(stage: Stage, name: str) -> dict[str, Any]:
    nodes = stage.ask("/v1/engine/nodes")["nodes"]
    return next(dict(node["canary"] or {}) for node in nodes if node["name"] == name)


def _states(stage: Stage) -> dict[str, str]:
    return {
        node["name"]: (node["canary"] or {}).get("state", "none")
        for node in stage.ask("/v1/engine/nodes")["nodes"]
    }


def _show(stage: Stage, screen: StoryScreen) -> None:
    rows = []
    for node in stage.nodes:
        canary = _canary(stage, node.name)
        fresh_s = canary["kinds"]["url"]["fresh_s"]
        after = f"{fresh_s * 1000:.1f} ms after its purge" if fresh_s is not None else "served on"
        rows.append([node.name, canary["state"], after])
    screen.table(["node", "canary", "the new object"], rows)
