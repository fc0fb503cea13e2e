"""What pages of docs/ have typed, typed: their ``sh`` blocks in one shell, and what they show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from release.lab.caches import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCK: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORTS: Final = re.compile(r"\b(808[0128]|6081|3128|918[12]|6379)\b")
TIMEOUT_S: Final = 90
ENGINE: Final = '[engine]\nlisten = "127.0.0.1:9181"\n'


class Block(NamedTuple):
    """A block to be typed.

    Attributes:
        script: its lines.
        code: the exit code of its last command: that of ``sh exits CODE``, else 0.
        shown: lines of the block of output that follows; there may be others between them.
    """

    script: str
    code: int
    shown: list[str]


def blocks(page: str) -> list[Block]:
    """Return what a page has typed."""
    found = [(match[1].split(), match[2]) for match in _BLOCK.finditer(page)] + [(["end"], "")]
    return [
        Block(text, int(kind[2]) if kind[1:2] == ["exits"] else 0, [] if after else shown.splitlines())
        for (kind, text), (after, shown) in pairwise(found)
        if kind[:1] == ["sh"]
    ]


def script_of(typed_blocks: list[Block]) -> str:
    """Return one script of them; it ends with 99 where a block's exit code is another one."""
    lines = []
    for block in typed_blocks:
        ends = f"set +e\n{block.script}[ $? = {block.code} ] || exit 99\nset -e\n"
        lines.append(ends if block.code else block.script)
    return "".join(lines)


class Ports:
    """Free ports in the place of those that a page names.

    Args:
        known: ports that servers of the test have, by the ports that stand for them in the page.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._free: dict[str, str] = dict(known or {})

    def __getitem__(self, named: str) -> str:
        """Return the port that stands for one that pages name."""
        if named not in self._free:
            self._free[named] = str(free_port())
        return self._free[named]

    def into(self, script: str) -> str:
        """Return a script, or what a file of it holds, with free ports."""
        return _PORTS.sub(lambda found: self[found[1]], script)

    def out_of(self, said: str) -> str:
        """Return what was said, with the ports that the page names."""
        for named, free in self._free.items():
            said = re.sub(rf"\b{free}\b", named, said)
        return said


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Yield an empty folder that other users may enter, as caches do that become another user."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="page-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def typed(script: str, folder: Path, ports: Ports) -> tuple[int, str]:
    """Run a script in *folder*; return its exit code and what was said. What it started ends with it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    env = {**os.environ, "PATH": path, "PURGELINE_URL": f"http://127.0.0.1:{ports['9181']}"}
    script = script.replace("<<END\n[[node]]", f"<<END\n{ENGINE}[[node]]")
    command = ["bash", "-e", "-c", f"trap 'kill $(jobs -p); wait' EXIT\n{ports.into(script)}"]
    pipe = subprocess.PIPE
    shell = subprocess.Popen(
        command, cwd=folder, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    with contextlib.ExitStack() as ends:
        ends.callback(_end, shell)
        try:
            said, _ = shell.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _end(shell)
            said, _ = shell.communicate()
    return shell.returncode, ports.out_of(said)


def _end(shell: subprocess.Popen[str]) -> None:
    """End a shell with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
