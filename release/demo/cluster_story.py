"""What happens in the demo of a cluster. Every ``claim`` is checked before it is printed."""

import contextlib
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

from release.demo.cluster import ENGINES, ClusterStage
from release.demo.program import wait_until
from release.demo.screen import INDENT, StoryScreen
from release.demo.stage import SITE, Node

PAGES = 300
PAGES_A_TASK = 5
CLIENTS = 6
ORIGIN_DELAY_S = 0.01  #: tasks live for a while, so the killed engine has some of them
DYING = "engine-2"


@dataclass
class Seen:
    """What the clients were answered."""

    accepted: list[str] = field(default_factory=list)
    refused: int = 0  #: 503: to be handed in again
    broken: int = 0  #: no answer: to be handed in again

    def __post_init__(self) -> None:
        self.lock = threading.Lock()


def tell(stage: ClusterStage, screen: StoryScreen) -> None:
    """Run all steps.

    Raises:
        ClaimError: something is not as it should be.
    """
    _introduce(stage, screen)
    _any_engine(stage, screen)
    _engine_dies(stage, screen)
    _redis_dies(stage, screen)
    _engine_returns(stage, screen)


def _introduce(stage: ClusterStage, screen: StoryScreen) -> None:
    screen.say("\nOn this machine now:  clients -> any of three engines -> Redis, and the caches")
    rows = [[node.name, node.url, node.software] for node in stage.nodes]
    rows.append(
        ["redis", f"redis://127.0.0.1:{stage.redis.port}", "append-only file, written before each answer"]
    )
    rows += [
        [name, f"http://127.0.0.1:{engine.port}", f"purgeline serve, pid {engine.pid}"]
        for name, engine in stage.engines.items()
    ]
    screen.table(["name", "listens at", "is"], rows)


def _any_engine(stage: ClusterStage, screen: StoryScreen) -> None:
    screen.step("Whichever engine is asked, it knows every task")
    status, answer = stage.send(ENGINES[0], "POST", "/v1/engine/task", _task("hello", ["/hello.html"]))
    screen.claim("engine-1 accepted the task hello, status", HTTPStatus.ACCEPTED.value, status)
    # The engine that does the task knows its end first; the others read it from Redis, a moment later.
    for name in ENGINES:
        _wait_done(stage, name, "hello")
    states = {name: _state(stage, name, "hello") for name in ENGINES}
    screen.table(["engine", "says the task is"], [[name, state] for name, state in states.items()])
    screen.claim("every engine says that it is done", dict.fromkeys(ENGINES, "done"), states)
    total = answer["total"]
    screen.claim("subtasks, one for each node:", len(stage.nodes), total)
    _show_cluster(stage, screen)


def _engine_dies(stage: ClusterStage, screen: StoryScreen) -> None:
    screen.step("An engine is killed under load")
    paths = [f"/page/{number}.html" for number in range(PAGES)]
    stage.origin.version = "old"
    _visit(stage.nodes, paths)
    stage.origin.version = "new"
    served = _visit(stage.nodes, paths)
    each = {node.name: {"old": PAGES} for node in stage.nodes}
    screen.claim(f"{PAGES} pages have changed, and every node serves the old ones", each, served)
    stage.origin.delay_s = ORIGIN_DELAY_S
    tasks = [
        _task(f"page-{place}", paths[place : place + PAGES_A_TASK], prefetch=True)
        for place in range(0, PAGES, PAGES_A_TASK)
    ]
    screen.say(
        f"\n{CLIENTS} clients purge them all and have them fetched again, {PAGES_A_TASK} a task, at all "
        f"three engines. In the middle of it:"
    )
    seen = Seen()
    with ThreadPoolExecutor(CLIENTS) as clients:
        work = [
            clients.submit(_hand_in, stage, seen, tasks[number::CLIENTS], number) for number in range(CLIENTS)
        ]
        wait_until(lambda: len(seen.accepted) > len(tasks) // 2, what="half of the tasks being accepted")
        screen.command(f"kill -9 {stage.engines[DYING].pid}  # {DYING}")
        stage.engines[DYING].kill()
        killed_at = time.monotonic()
        for client in work:
            client.result()
    screen.say(
        f"{seen.broken} requests had no answer, and were sent again to another engine, with the same id."
    )
    screen.claim("tasks accepted:", len(tasks), len(set(seen.accepted)))
    living = [name for name in ENGINES if name != DYING]
    ids = sorted(set(seen.accepted))
    with screen.waiting("the other engines take its work over"):
        for task_id in ids:
            for name in living:
                _wait_done(stage, name, task_id)
    screen.say(f"The last was done {time.monotonic() - killed_at:.1f} s after the engine was killed.")
    states = Counter(_state(stage, name, task_id) for name in living for task_id in ids)
    screen.claim("each is done, whichever of the two is asked", {"done": 2 * len(tasks)}, dict(states))
    stage.origin.delay_s = 0.0
    served = _visit(stage.nodes, paths)
    each = {node.name: {"new": PAGES} for node in stage.nodes}
    screen.claim(f"every node serves the new page, {PAGES} of {PAGES}; lost: 0", each, served)


def _redis_dies(stage: ClusterStage, screen: StoryScreen) -> None:
    screen.step("Redis is killed")
    screen.command(f"kill -9 {stage.redis.pid}  # redis")
    stage.redis.kill()
    status, answer = stage.send(ENGINES[0], "POST", "/v1/engine/task", _task("later", ["/later.html"]))
    screen.claim("a new task is refused, not lost, status", HTTPStatus.SERVICE_UNAVAILABLE.value, status)
    screen.output(answer["detail"])
    stage.redis.start()
    screen.say("Redis runs again, on what its file holds.")
    wait_until(
        lambda: (
            stage.send(ENGINES[0], "POST", "/v1/engine/task", _task("later", ["/later.html"]))[0]
            in {HTTPStatus.ACCEPTED, HTTPStatus.OK}
        ),
        what="the same task being accepted",
    )
    _wait_done(stage, ENGINES[2], "later")
    screen.claim("the same task again is accepted, and", "done", _state(stage, ENGINES[2], "later"))
    screen.claim("a task of before is still", "done", _state(stage, ENGINES[0], "hello"))


def _engine_returns(stage: ClusterStage, screen: StoryScreen) -> None:
    screen.step("The engine comes back")
    stage.engines[DYING].kill()  # what may be left of its process group
    stage.engines[DYING].start()
    stage.wait_until_ready(DYING)
    _show_cluster(stage, screen)
    states = {name: _state(stage, name, "page-0") for name in ENGINES}
    screen.claim("every engine knows every task", dict.fromkeys(ENGINES, "done"), states)


def invite(stage: ClusterStage, screen: StoryScreen) -> None:
    """Leave everything running until Ctrl-C, with something to try."""
    with contextlib.suppress(KeyboardInterrupt):  # also one that comes before all is said
        screen.step("Now you: everything runs on until Ctrl-C")
        for name, engine in stage.engines.items():
            screen.command(f"export PURGELINE_URL=http://127.0.0.1:{engine.port}  # {name}, pid {engine.pid}")
        for words in (f"{sys.executable} -m engine cluster", f"redis-cli -p {stage.redis.port} --scan"):
            screen.command(words)
        signal.pause()
    screen.say("")


def _show_cluster(stage: ClusterStage, screen: StoryScreen) -> None:
    """Show what ``purgeline cluster`` prints."""
    screen.command("purgeline cluster")
    printed = stage.purgeline("cluster", width=screen.width - len(INDENT), is_terminal=screen.is_terminal)
    screen.output(printed.output)
    screen.claim("exit code", 0, printed.exit_code)


def _task(task_id: str, paths: Sequence[str], **more: object) -> dict[str, object]:
    return {"id": task_id, "targets": [f"http://{SITE}{path}" for path in paths], **more}


def _state(stage: ClusterStage, name: str, task_id: str) -> str:
    status, document = stage.send(name, "GET", f"/v1/engine/task/{task_id}")
    return str(document["state"]) if status == HTTPStatus.OK else f"status {status}"


def _wait_done(stage: ClusterStage, name: str, task_id: str) -> None:
    wait_until(lambda: _state(stage, name, task_id) == "done", what=f"{name} saying that {task_id} is done")


def _hand_in(stage: ClusterStage, seen: Seen, tasks: Sequence[dict[str, object]], place: int) -> None:
    """Hand tasks in as a client should: each again with its id, at the next engine, until it is accepted."""
    for task in tasks:
        while True:
            name = ENGINES[place % len(ENGINES)]
            place += 1
            try:
                status, _ = stage.send(name, "POST", "/v1/engine/task", task)
            except OSError:
                with seen.lock:
                    seen.broken += 1
                continue
            with seen.lock:
                if status in {HTTPStatus.ACCEPTED, HTTPStatus.OK}:
                    seen.accepted.append(str(task["id"]))
                    break
                seen.refused += 1
            time.sleep(0.05)


def _visit(nodes: Sequence[Node], paths: Sequence[str]) -> dict[str, dict[str, int]]:
    """Get each page at each node, as visitors do; return how many of which version each serves."""

    def visit(node: Node) -> dict[str, int]:
        return dict(Counter(node.get(path).content.partition(" ")[0] for path in paths))

    with ThreadPoolExecutor(len(nodes)) as threads:
        return dict(zip([node.name for node in nodes], threads.map(visit, nodes), strict=True))
