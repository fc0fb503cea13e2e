"""The engine runs another release, then the links name it; where that fails, both are as before."""

from __future__ import annotations

import time
from pathlib import Path

from .answers import Refused, explain, tell, write
from .control import ask, running
from .files import link
from .history import WAYS_BACK
from .requests import seconds
from .service import START_WAIT_S, STOP_WAIT_S, uses_systemd
from .start import start
from .stop import halt
from .supervisor import install_supervisor

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

BAKE_S = 5.0


def switch(host: Host, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Let the engine take the release in *folder* over, then the links.

    Raises:
        Refused: the engine cannot run it, or the links cannot be replaced; what ran before runs again.
    """
    version = folder.name
    links = host.links()
    is_way_back = request.get("action") in WAYS_BACK
    timeout_s, bake_s = seconds(request, "timeout_s", START_WAIT_S), seconds(request, "bake_s", BAKE_S)
    status = settled(host, timeout_s + bake_s)
    install_supervisor(host, folder, is_way_back=is_way_back)
    if not status:
        return start_first(host, request, links)
    runs_it = status.get("version") == version and Path(status.get("release_dir") or "") == folder.resolve()
    if runs_it and not request.get("force"):
        point(host, version, links)
        return {"unchanged": links["current"] == f"releases/{version}"}
    order: dict[str, Any] = {"cmd": "reload", "release_dir": str(folder), "version": version}
    order.update(timeout_s=timeout_s, bake_s=bake_s)
    limit_s = timeout_s + bake_s + STOP_WAIT_S
    answer = ask(host, order, timeout_s=limit_s, on_event=write)
    if not answer["ok"]:
        raise Refused(f"reload-{answer.get('stage', '')}", answer["error"], answer.get("log"))
    try:
        point(host, version, links)
    except OSError as exc:
        before = {key: status[key] for key in ("release_dir", "version")}
        back = ask(host, {**order, **before, "bake_s": 0}, timeout_s=limit_s)
        what = "was brought back" if back["ok"] else f"cannot be brought back ({back['error']})"
        raise Refused(
            "links", f"current cannot be replaced, so {status['version']} {what}: {explain(exc)}"
        ) from exc
    return {"unchanged": False, "accepting_after_s": answer.get("accepting_after_s")}


def settled(host: Host, limit_s: float) -> dict[str, Any]:
    """Return the supervisor's status once nothing is under way, such as a reload whose asker was killed.

    Empty if no supervisor runs.
    """
    until = time.monotonic() + limit_s
    is_told = False
    while status := running(host):
        if status.get("state") == "serving" or time.monotonic() > until:
            break
        if not is_told:
            tell("waiting", message=f"the engine is {status.get('state')} already, that is waited for")
            is_told = True
        time.sleep(0.05)
    return status


def start_first(host: Host, request: dict[str, Any], links: dict[str, str]) -> dict[str, Any]:
    """Start the engine where none runs. If that fails, links are as they were."""
    version, is_started = request["version"], False
    began = time.monotonic()
    try:
        if uses_systemd(host, request.get("service")):  # it starts what `current` names
            point(host, version, links)
        start(host, request)
        is_started, took_s = True, time.monotonic() - began
        point(host, version, links)
    except BaseException:
        if is_started:
            halt(host, request, running(host).get("pid"))
        for name, target in links.items():
            if host.links()[name] != target:
                link(host.root / name, target)
        raise
    return {"unchanged": False, "started": True, "accepting_after_s": round(took_s, 3)}


def point(host: Host, version: str, links: dict[str, str]) -> None:
    """Point ``current`` at a version and ``previous`` at the one before."""
    target = f"releases/{version}"
    if links["current"] == target:
        return
    if links["current"]:
        link(host.root / "previous", links["current"])
    link(host.root / "current", target)
