"""Applies states on this host: puts them into a folder and calls ``salt-call --local``.

``apply`` is a program of its own beside the operations on an installation: it needs no Python but Salt's, and
no engine. The states, the pillar (which may hold secrets) and all that Salt keeps live below
``ROOT/cache/salt-…``, readable by nobody else, and are removed at the end; what a killed run left, the next
one removes. Nothing of a minion that the host may have is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from .answers import TAIL_LINES, Refused, refuse, tell, write
from .files import holding
from .layout import Host
from .lock import need_lock, refuse_locked

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

MINION = {
    "file_client": "local",
    "log_level": "error",
    "log_level_logfile": "quiet",
    "enable_gpu_grains": False,
    "enable_fqdns_grains": False,  # would ask name servers for every address
}


def main(_argv: list[str]) -> int:
    """Apply the states of the request on standard input; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed
    try:
        answer = apply(json.loads(sys.stdin.read()))
    except Refused as exc:
        return refuse(exc)
    except (KeyError, TypeError, ValueError) as exc:
        return refuse(Refused("request", f"request cannot be used: {exc!r}"))
    except OSError as exc:
        return refuse(Refused("os", str(exc)))
    write(answer)
    return 0 if answer["ok"] else 1


def apply(request: dict[str, Any]) -> dict[str, Any]:
    """Apply the states of a request; return the answer.

    Args:
        request: ``root``; ``id`` (str): the host's name; ``files`` (mapping of path to text): ``salt/…``,
            ``templates/…`` and ``pillar/…``; ``grains`` and ``pillar`` (mappings); ``states`` (str): one SLS,
            or empty for the top file; ``test`` (bool): only tell; ``salt_call`` (str): program;
            ``token`` (str): of the deploy lock, if the asker holds it.

    Raises:
        Refused: nothing can be said about the states; kind ``locked``, ``lost``, ``rights``, ``no-salt``,
            ``render`` or ``protocol``.
        OSError: the folder cannot be written.
    """
    host = Host(Path(request["root"]))
    if request.get("token"):
        need_lock(host, request["token"])
    elif not request["test"]:
        refuse_locked(host)
    cache = host.root / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    sudo = _sudo()
    busy = Refused("locked", "states are being applied there already")
    with holding(cache / "salt.lock", wait_s=0, refusal=busy):
        for leftover in cache.glob("salt-*"):
            _remove(leftover, sudo)
        folder = Path(tempfile.mkdtemp(prefix="salt-", dir=cache))
        try:
            for name, text in request["files"].items():
                _write(folder, name, text)
            _write(folder, "minion", json.dumps(_minion(folder, request)))
            tell("applying", test=bool(request["test"]))
            code, states = _call(folder, request, sudo)
        finally:
            _remove(folder, sudo)
    failed = [state["id"] for state in states if state["result"] is False]
    if failed or code:
        return {
            "ok": False,
            "error": f"{len(failed)} of {len(states)} states failed: {', '.join(failed)}",
            "kind": "states",
            "states": states,
        }
    return {"ok": True, "states": states}


def _minion(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    return {
        **MINION,
        "id": request["id"],
        "root_dir": str(folder / "run"),
        "file_roots": {"base": [str(folder / "salt"), str(folder / "templates")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        "grains": request["grains"],
    }


def _call(folder: Path, request: dict[str, Any], sudo: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run ``salt-call``; return its exit code and what it says of each state, in the order they ran."""
    program = shutil.which(request["salt_call"])
    if program is None:
        raise Refused(
            "no-salt",
            f"{request['salt_call']} is not there: install Salt, or say where it is with salt_call in "
            "release.toml",
        )
    command = [*sudo, program, "--local", "-c", str(folder), "--retcode-passthrough", "--out=json"]
    command += ["state.apply", *([request["states"]] if request["states"] else [])]
    command += [f"test={bool(request['test'])}", f"pillar={json.dumps(request['pillar'])}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ |= {"PYTHONWARNINGS": "ignore", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environ, cwd="/"
    )
    log = done.stderr.strip().splitlines()[-TAIL_LINES:]
    try:
        result = json.loads(done.stdout)["local"]
    except (ValueError, KeyError, TypeError):
        said = (log or done.stdout.strip().splitlines() or ["nothing"])[-1]
        text = f"{program} ended with {done.returncode} and no result: {said}"
        raise Refused("rights" if sudo else "protocol", text, log) from None
    if not isinstance(result, dict):
        reasons = result if isinstance(result, list) else [str(result)]
        raise Refused("render", "the states cannot be rendered: " + "\n".join(map(str, reasons)), log)
    return done.returncode, states_of(result)


def states_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the states of a result in the order they ran; takes apart ``file_|-ID_|-NAME_|-managed``."""
    states = []
    for key, state in sorted(result.items(), key=lambda item: item[1].get("__run_num__", 0)):
        module, identity, name, function = key.split("_|-")
        states.append(
            {
                "id": state.get("__id__", identity),
                "function": f"{module}.{function}",
                "name": str(state.get("name", name)),
                "result": state.get("result"),
                "comment": str(state.get("comment", "")),
                "changes": state.get("changes") or {},
            }
        )
    return states


def _write(folder: Path, name: str, text: str) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"files: {name!r} is not a path below a folder")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _sudo() -> list[str]:
    """Return what goes in front of a command that needs root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise Refused("rights", "states are applied by root: log in as root, or install sudo")
    return ["sudo", "-n"]


def _remove(path: Path, sudo: list[str]) -> None:
    if path.is_dir():
        subprocess.run([*sudo, "rm", "-rf", "--", str(path)], check=False)
