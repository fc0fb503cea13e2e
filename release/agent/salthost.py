"""Applies states on the host it runs on: puts them into a folder and calls ``salt-call --local``.

``python3 -I salthost.py apply`` reads one JSON object on standard input and writes JSON lines: progress, then
one answer with ``ok``; exit code 0 or 1, as ``host.py`` does, so `release.remote.Fleet` runs both. Standard
library only. The states, the pillar (which may hold secrets) and all that Salt keeps live below
``ROOT/cache/salt-…``, readable by nobody else, and are removed at the end; what a killed run left, the next
one removes. Nothing of a minion that the host may have is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

MINION = {
    "file_client": "local",
    "log_level": "error",
    "log_level_logfile": "quiet",
    "enable_gpu_grains": False,
    "enable_fqdns_grains": False,  # would ask name servers for every address
}
TAIL_LINES = 20


class ApplyError(Exception):
    """The states were not applied; the text says why.

    Args:
        text: one sentence.
        kind: ``locked``, ``rights``, ``no-salt``, ``render``, ``protocol`` or ``request``.
        log: last lines that tell more.
    """

    def __init__(self, text: str, *, kind: str, log: list[str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.log = log or []


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed
    try:
        if argv == ["apply"]:
            answer = apply(json.loads(sys.stdin.read()))
        else:
            answer = {"ok": False, "error": f"no operation {argv}, only 'apply'", "kind": "request"}
    except ApplyError as exc:
        answer = {"ok": False, "error": str(exc), "kind": exc.kind, "log": exc.log}
    except (KeyError, TypeError, ValueError) as exc:
        answer = {"ok": False, "error": f"request cannot be used: {exc!r}", "kind": "request"}
    except OSError as exc:
        answer = {"ok": False, "error": str(exc), "kind": "os"}
    print(json.dumps(answer), flush=True)
    return 0 if answer["ok"] else 1


def apply(request: dict[str, Any]) -> dict[str, Any]:
    """Apply the states of a request; return the answer.

    Args:
        request: ``root``; ``id`` (str): the host's name; ``files`` (mapping of path to text): ``salt/…``,
            ``templates/…`` and ``pillar/…``; ``grains`` and ``pillar`` (mappings); ``states`` (str): one SLS,
            or empty for the top file; ``test`` (bool): only tell; ``salt_call`` (str): program.

    Raises:
        ApplyError: nothing can be said about the states.
        OSError: the folder cannot be written.
    """
    cache = Path(request["root"]) / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    sudo = _sudo()
    with _locked(cache / "salt.lock"):
        for left in cache.glob("salt-*"):
            _remove(left, sudo)
        folder = Path(tempfile.mkdtemp(prefix="salt-", dir=cache))
        try:
            for name, text in request["files"].items():
                _write(folder, name, text)
            _write(folder, "minion", json.dumps(_minion(folder, request)))
            print(json.dumps({"event": "applying", "test": bool(request["test"])}), flush=True)
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
        raise ApplyError(
            f"{request['salt_call']} is not there: install Salt, or say where it is with salt_call in "
            "[tool.purgeline.release]",
            kind="no-salt",
        )
    command = [*sudo, program, "--local", "-c", str(folder), "--retcode-passthrough", "--out=json"]
    command += ["state.apply", *([request["states"]] if request["states"] else [])]
    command += [f"test={bool(request['test'])}", f"pillar={json.dumps(request['pillar'])}"]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environ, cwd="/"
    )
    log = done.stderr.strip().splitlines()[-TAIL_LINES:]
    try:
        found = json.loads(done.stdout)["local"]
    except (ValueError, KeyError, TypeError):
        said = (log or done.stdout.strip().splitlines() or ["nothing"])[-1]
        text = f"{program} ended with {done.returncode} and no result: {said}"
        raise ApplyError(text, kind="rights" if sudo else "protocol", log=log) from None
    if not isinstance(found, dict):
        reasons = found if isinstance(found, list) else [str(found)]
        raise ApplyError(
            "the states cannot be rendered: " + "\n".join(map(str, reasons)), kind="render", log=log
        )
    return done.returncode, states_of(found)


def states_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the states of a result in the order they ran; takes apart ``file_|-ID_|-NAME_|-managed``."""
    states = []
    for key, state in sorted(found.items(), key=lambda item: item[1].get("__run_num__", 0)):
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


@contextlib.contextmanager
def _locked(path: Path) -> Any:
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ApplyError("states are being applied there already", kind="locked") from None
        yield


def _sudo() -> list[str]:
    """Return what goes in front of a command that needs root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise ApplyError("states are applied by root: log in as root, or install sudo", kind="rights")
    return ["sudo", "-n"]


def _remove(path: Path, sudo: list[str]) -> None:
    if path.is_dir():
        subprocess.run([*sudo, "rm", "-rf", "--", str(path)], check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
