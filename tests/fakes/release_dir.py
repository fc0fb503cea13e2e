"""Release folders whose Python is a scripted worker, for the supervisor."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("scripted_worker.py")


def make_release(folder: Path, version: str, *, name: str = "", **behaviour: Any) -> Path:
    """Make ``folder/NAME`` with ``venv/bin/python``, a manifest and ``behaviour.json``; return it.

    Args:
        folder: ``releases/`` of a host.
        version: of its manifest and its workers.
        name: of the folder, default the version.
        behaviour: keys as in `scripted_worker`.
    """
    release = folder / (name or version)
    python = release / "venv/bin/python"
    python.parent.mkdir(parents=True)
    command = shlex.join([sys.executable, "-I", "-S", str(SCRIPT), str(release)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    (release / "manifest.json").write_text(json.dumps({"version": version}))
    behave(release, version=version, **behaviour)
    return release


def behave(release: Path, **behaviour: Any) -> None:
    """Change what the next workers of a release do; keys that are not named stay."""
    path = release / "behaviour.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **behaviour}))


def commands(release: Path, what: str = "") -> list[dict[str, Any]]:
    """Return what its workers noted, in order; only one kind of it if *what* is given."""
    path = release / "commands.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    notes: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [note for note in notes if what in {"", note["what"]}]
