"""What happens in the demo, step by step. Every ``claim`` is checked before it is printed."""

import contextlib
import re
import signal
import sys
from pathlib import Path

from release.demo import proof_story
from release.demo.program import StageError, wait_until
from release.demo.screen import INDENT, StoryScreen
from release.demo.stage import SITE, Node, Page, Stage
from release.demo.terminal import Printed

LOGO = "/logo.svg"
NEWS = ("/news/1.html", "/news/2.html", "/news/3.html")
DONE, FAILED, USAGE = 0, 1, 2  #: exit codes of the command line


def tell(stage: Stage, screen: StoryScreen) -> None:
    """Run all steps.

    Raises:
        ClaimError: something is not as it should be.
    """
    _introduce(stage, screen)
    _cached(stage, screen)
    _stale(stage, screen)
    _purge(stage, screen)
    _prefetch(stage, screen)
    task_id = _node_dies(stage, screen)
    _node_returns(stage, screen, task_id)
    _mistakes(stage, screen)
    _figures(stage, screen)
    measured = proof_story.canaries(stage, screen)
    proof_story.why(stage, screen, LOGO)
    proof_story.time_to_fresh(measured, screen)


def url_of(path: str) -> str:
    """Return a page's URL, as visitors know it."""
    return f"http://{SITE}{path}"


# --- steps -------------------------------------------------------------------------------------


def _introduce(stage: Stage, screen: StoryScreen) -> None:
    screen.say("\nOn this machine now:  visitors -> edge-1, edge-2 -> parent-1 -> origin")
    rows = [["origin", stage.origin.url, "a small web server that counts requests"]]
    rows += [[node.name, node.url, node.software] for node in stage.nodes]
    rows.append(["engine", stage.engine_url, f"purgeline serve, pid {stage.engine.pid}"])
    screen.table(["name", "listens at", "is"], rows)
    for reason in dict.fromkeys(node.why_builtin for node in stage.nodes if node.why_builtin):
        names = ", ".join(node.name for node in stage.nodes if node.why_builtin == reason)
        screen.say(f"Built-in proxy for {names}: {reason}.")


def _cached(stage: Stage, screen: StoryScreen) -> None:
    screen.step("A page gets cached")
    stage.origin.set(SITE, LOGO, b"logo v1")
    for node in stage.nodes:
        node.get(LOGO)
    asked = _asked(stage, LOGO)
    pages = _who_serves_what(stage, screen, LOGO)
    screen.claim("every node serves it from its cache", _all(stage, "logo v1", is_hit=True), pages)
    screen.claim("requests at the origin for that:", 0, _asked(stage, LOGO) - asked)


def _stale(stage: Stage, screen: StoryScreen) -> None:
    screen.step("It changes at the origin, and the caches do not know")
    stage.origin.set(SITE, LOGO, b"logo v2")
    pages = _who_serves_what(stage, screen, LOGO)
    screen.claim("every visitor still gets the old page", _all(stage, "logo v1", is_hit=True), pages)


def _purge(stage: Stage, screen: StoryScreen) -> None:
    screen.step("Purge it")
    screen.command(f"export PURGELINE_URL={stage.engine_url}")
    printed = _type(stage, screen, f"purge {url_of(LOGO)} --wait", exit_code=DONE)
    task = stage.ask(f"/v1/engine/task/{_task_id(printed)}")
    screen.say("\nThe parent goes first, else it would hand the old page out again:")
    answers = sorted(stage.answers(task["task_id"], len(stage.nodes)), key=lambda line: line["time"])
    after_ms = {line["node"]: (line["time"] - task["created_at"]) * 1000 for line in answers}
    rows = []
    for layer in task["layers"]:
        names = [node.name for node in stage.nodes if node.layer == layer["name"]]
        layer_ms = max(after_ms[name] for name in names)
        acked = f"{layer['counter']} of {layer['total']}"
        rows.append([layer["name"], ", ".join(names), acked, f"{layer_ms:.1f} ms after the task came in"])
    screen.table(["layer", "nodes", "acked", "done"], rows)
    screen.claim("the first node to answer was", "parent-1", answers[0]["node"])
    screen.claim("the task is", "done", task["state"])
    asked = _asked(stage, LOGO)
    screen.say("\nVisitors get the new page now:")
    pages = _who_serves_what(stage, screen, LOGO)
    screen.claim("every node serves the new page", _all(stage, "logo v2", is_hit=False), pages)
    screen.claim("requests at the origin for all three nodes:", 1, _asked(stage, LOGO) - asked)


def _prefetch(stage: Stage, screen: StoryScreen) -> None:
    screen.step("Prefetch new pages, before the first visitor comes")
    for path in NEWS:
        stage.origin.set(SITE, path, f"news {path[6]}".encode())
    screen.claim("requests at the origin for them so far:", 0, _asked(stage, *NEWS))
    _type(stage, screen, "prefetch " + " ".join(url_of(path) for path in NEWS) + " --wait", exit_code=DONE)
    screen.claim("requests at the origin for three pages on three nodes:", len(NEWS), _asked(stage, *NEWS))
    screen.say("\nNow the first visitors:")
    pages = {node.name: [node.get(path) for path in NEWS] for node in _edges(stage)}
    rows = [
        [
            path,
            *(
                f"{'HIT' if found[place].is_hit else 'MISS'}, {found[place].content}"
                for found in pages.values()
            ),
        ]
        for place, path in enumerate(NEWS)
    ]
    screen.table(["first GET of", *(f"at {name}" for name in pages)], rows)
    wanted = {name: [Page(f"news {path[6]}", is_hit=True) for path in NEWS] for name in pages}
    screen.claim("every one was served from the edge's cache", wanted, pages)
    screen.claim("requests at the origin for them, still", len(NEWS), _asked(stage, *NEWS))


def _node_dies(stage: Stage, screen: StoryScreen) -> str:
    """Kill edge-2 and purge all the same; return the task's id."""
    screen.step("A node dies, and the purge goes on")
    dying = stage.node("edge-2")
    screen.command(f"kill -9 {dying.server.pid}  # edge-2")
    dying.server.kill()
    stage.origin.set(SITE, LOGO, b"logo v3")
    screen.say("The page changes again. What is left for edge-2 waits, and the command says so at once:")
    printed = _type(stage, screen, f"purge {url_of(LOGO)} --wait", exit_code=FAILED)
    task = stage.ask(f"/v1/engine/task/{_task_id(printed)}")
    screen.claim("the task is", "partial", task["state"])
    screen.claim("subtasks acked:", len(stage.nodes) - 1, task["counter"])
    screen.claim("subtasks delayed, kept on disk for edge-2:", 1, task["delayed"])
    pages = _who_serves_what(stage, screen, LOGO)
    fresh = _all(stage, "logo v3", is_hit=False)
    del fresh["edge-2"]
    screen.claim("the nodes that are up serve the new page", fresh, pages)
    return str(task["task_id"])


def _node_returns(stage: Stage, screen: StoryScreen, task_id: str) -> None:
    screen.step("The node is back, and gets what it missed")
    back = stage.node("edge-2")
    back.server.start()
    screen.say("edge-2 runs again, with the old page on its disk. The engine notices by itself.")
    with screen.waiting("late delivery"):
        wait_until(lambda: stage.ask(f"/v1/engine/task/{task_id}")["state"] == "done", what="late delivery")
        wait_until(lambda: _state(stage, "edge-2") == "ready", what="edge-2 counting as ready")
    _type(stage, screen, f"status {task_id}", exit_code=DONE)
    late = [line for line in stage.answers("delayed", 1) if line["node"] == "edge-2"]
    screen.claim("edge-2 had the old page and dropped it:", "acked", late[0]["outcome"])
    pages = _who_serves_what(stage, screen, LOGO)
    contents = {name: page.content for name, page in pages.items()}
    screen.claim("fresh everywhere", {node.name: "logo v3" for node in stage.nodes}, contents)


def _mistakes(stage: Stage, screen: StoryScreen) -> None:
    screen.step("Mistakes are told, and nothing is sent")
    before = _answers_count(stage)
    printed = _type(stage, screen, f"purge http://img.exmaple.com{LOGO}", exit_code=USAGE)
    screen.claim("the message names the host", True, "'img.exmaple.com'" in printed.plain)
    printed = _type(stage, screen, f"purge {url_of(LOGO)} --node egde-1", exit_code=USAGE)
    screen.claim("the message names the node that was meant", True, "'edge-1'" in printed.plain)
    screen.claim("requests sent to caches for that:", 0, _answers_count(stage) - before)


def _figures(stage: Stage, screen: StoryScreen) -> None:
    screen.step("The figures")
    wait_until(lambda: _waiting(stage) == 0, what="the engine's queues being empty")
    nodes = stage.ask("/v1/engine/nodes")["nodes"]
    screen.table(
        ["node", "state", "acked"], [[node["name"], node["state"], str(node["acked"])] for node in nodes]
    )
    tasks = stage.ask("/v1/engine/tasks")["tasks"]
    total, acked, failed, delayed = (
        sum(task[key] for task in tasks) for key in ("total", "counter", "failed", "delayed")
    )
    screen.claim("every node is ready", {"ready"}, {node["state"] for node in nodes})
    screen.claim("tasks handed in:", 3, len(tasks))
    screen.claim("tasks done:", 3, [task["state"] for task in tasks].count("done"))
    targets = 1 + len(NEWS) + 1  # of the purge, the prefetch and the purge without edge-2
    screen.claim("subtasks, one for each target on each node:", targets * len(stage.nodes), total)
    screen.claim("subtasks acked:", total, acked)
    screen.claim("subtasks failed or still delayed:", 0, failed + delayed)
    screen.claim("subtasks lost:", 0, total - acked - failed - delayed)


def invite(stage: Stage, screen: StoryScreen) -> None:
    """Leave everything running until Ctrl-C, with something to try."""
    with contextlib.suppress(KeyboardInterrupt):  # also one that comes before all is said
        screen.step("Now you: everything runs on until Ctrl-C")
        if stage.has_canaries:
            stage.change_vcl("edge-1", "")
            screen.say("The line is out of the VCL of edge-1 again.")
        screen.say("In another terminal:")
        for words in _things_to_try(stage):
            screen.command(words)
        if not sys.stdin.isatty():
            screen.say("\nStop it with Ctrl-C or SIGTERM.")
            signal.pause()
            return
        screen.say(
            f"\nEnter changes {LOGO} at the origin and starts killed nodes again. Ctrl-C stops it all."
        )
        version = 4
        while sys.stdin.readline():
            version += 1
            stage.origin.set(SITE, LOGO, f"logo v{version}".encode())
            screen.say(f"{LOGO} is now: logo v{version}")
            for node in stage.nodes:
                if node.server.pid is None:
                    node.server.kill()  # what may be left of its process group
                    node.server.start()
                    screen.say(f"{node.name} runs again, pid {node.server.pid}")
    screen.say("")


def _things_to_try(stage: Stage) -> list[str]:
    installed = Path(sys.executable).parent / "purgeline"
    purgeline = str(installed) if installed.exists() else f"{sys.executable} -m engine"
    edge, dying = stage.node("edge-1"), stage.node("edge-2")
    return [
        f"export PURGELINE_URL={stage.engine_url}",
        f"alias purgeline='{purgeline}'",
        f"curl -i -H 'Host: {SITE}' {edge.url}{LOGO}",
        f"purgeline purge {url_of(LOGO)} --wait",
        f"purgeline purge {url_of('/a.css')} {url_of('/b.js')} --prefetch --wait",
        f"purgeline why {url_of(LOGO)}",
        "purgeline nodes",
        "purgeline tasks",
        "purgeline stats",
        f"curl {stage.engine_url}/metrics",
        f"kill -9 {dying.server.pid}  # {dying.name}; then purge, and look at: purgeline nodes",
        f"cat {stage.config_path}",
    ]


# --- looking -----------------------------------------------------------------------------------


def _who_serves_what(stage: Stage, screen: StoryScreen, path: str) -> dict[str, Page]:
    """Show what a visitor of each node gets now, and return it; nodes that are down are left out."""
    newest = stage.origin.content(SITE, path).body.decode()
    rows = [["origin", newest, "itself", "fresh"]]
    pages: dict[str, Page] = {}
    for node in stage.nodes:
        try:
            page = pages[node.name] = node.get(path)
        except OSError:
            rows.append([node.name, "-", "-", "down"])
            continue
        source = "HIT, its cache" if page.is_hit else "MISS, fetched now"
        rows.append([node.name, page.content, source, "fresh" if page.content == newest else "stale"])
    screen.table(["who", f"serves {path}", "from", "which is"], rows)
    return pages


def _all(stage: Stage, content: str, *, is_hit: bool) -> dict[str, Page]:
    return {node.name: Page(content, is_hit) for node in stage.nodes}


def _edges(stage: Stage) -> list[Node]:
    return [node for node in stage.nodes if node.layer == "edge"]


def _asked(stage: Stage, *paths: str) -> int:
    """Return how often the origin was asked for *paths* so far."""
    return sum(stage.origin.hits[SITE, path] for path in paths)


def _state(stage: Stage, name: str) -> str:
    nodes = stage.ask("/v1/engine/nodes")["nodes"]
    return next(str(node["state"]) for node in nodes if node["name"] == name)


def _answers_count(stage: Stage) -> int:
    """Return how many requests caches have answered so far."""
    return int(stage.ask("/v1/engine/stats")["qps_proxy"]["count"])


def _waiting(stage: Stage) -> int:
    stats = stage.ask("/v1/engine/stats")
    return sum(int(stats[key]) for key in ("input_task_queue", "pushing_queue", "reporting_queue"))


def _type(stage: Stage, screen: StoryScreen, words: str, *, exit_code: int) -> Printed:
    """Show a command, run it, show what it printed; it must end with *exit_code*."""
    screen.command(f"purgeline {words}")
    printed = stage.purgeline(words, width=screen.width - len(INDENT), is_terminal=screen.is_terminal)
    screen.output(printed.output)
    screen.claim("exit code", exit_code, printed.exit_code)
    return printed


def _task_id(printed: Printed) -> str:
    match = re.search(r"^task_id\s+(\S+)", printed.plain, re.MULTILINE)
    if match is None:
        raise StageError(f"no task id in: {printed.plain}")
    return match[1]
