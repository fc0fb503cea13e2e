"""What ``purgeline doctor`` says, by name of the check."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli.main import main
from tests.rigs.engine_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Examined(NamedTuple):
    """One report."""

    code: int
    rows: dict[str, dict[str, Any]]

    def verdicts(self, *names: str) -> list[str]:
        """Return the verdicts of checks; without names those of all but ``ok``, with their names."""
        if names:
            return [self.rows[name]["verdict"] for name in names]
        return [f"{name}: {row['verdict']}" for name, row in self.rows.items() if row["verdict"] != "ok"]


def examined(config: Path, *options: str) -> Examined:
    """Have the doctor look, in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["doctor", "--config", str(config), "--json", *options])
    return _read(code, said.getvalue())


def examined_by(
    config: Path, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Examined:
    """Have the doctor look, in a process of its own that is started by other words."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "engine", "doctor", "--config", str(config), "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr, done.stderr
    return _read(done.returncode, done.stdout)


def _read(code: int, text: str) -> Examined:
    document = json.loads(text)
    rows = {row["name"]: row for row in document["checks"]}
    assert len(rows) == len(document["checks"])
    for row in rows.values():
        assert row.keys() == {"name", "verdict", "value", "limit", "reason", "remedy"}
        assert row["verdict"] in {"ok", "warn", "fail", "not known"}
        assert row["reason"] or row["verdict"] == "ok" or row["name"] == "nodes", row
        assert row["remedy"] or row["verdict"] in {"ok", "not known"} or row["name"] == "nodes", row
    assert (code == 1) == ("fail" in {row["verdict"] for row in rows.values()})
    return Examined(code, rows)
