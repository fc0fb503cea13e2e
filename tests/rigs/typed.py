"""What pages of docs/ have typed, typed: their ``sh`` blocks in one shell, and what they show."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from release.lab.caches import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCK: Final = re.compile(
    r"(?:^<!-- (run by|not run): ([^\n]*) -->\n)?^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_PORTS: Final = re.compile(r"\b(808[0128]|6081|3128|918[123]|6379)\b")
_PROMPT: Final = "$ "
_NUMBER: Final = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,}\b|\d+(?:[.:]\d+)*")
_COLUMNS: Final = re.compile(r"\t| {2,}")
_FRAME: Final = re.compile(r"\s.*\(.+:N\)$")
_ALIKE: Final = 0.6  #: the share of its words that a sentence has to have
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_TABLE: Final = 3  #: columns
_ROW: Final = 6  #: cells without spaces, in a terminal: how far apart they are depends on what they hold
_ALIKE_CELLS: Final = 0.8  #: the share of cells that have to be of the same kind: a version may be no number
TIMEOUT_S: Final = 840  #: on a machine whose cores forty processes want a page takes minutes
ENGINE: Final = '[engine]\nlisten = "127.0.0.1:9181"\n'


class Block(NamedTuple):
    """A block to be typed.

    Attributes:
        script: its lines; of a transcript (``console``) what stands behind its prompts.
        code: the exit code of its last command: that of ``sh exits CODE``, else 0; None: any.
        shown: lines that are shown, there may be others between them: of ``sh`` the block of output that
            follows, of a transcript what stands below its commands.
        run_by: the test that runs it, where that is not the one of its page.
        not_run: why nothing runs it here.
    """

    script: str
    code: int | None
    shown: list[str]
    run_by: str = ""
    not_run: str = ""


def blocks(page: str) -> list[Block]:
    """Return what a page has typed: its ``sh`` and ``console`` blocks.

    A comment in the line before says of a block that another test runs it (``<!-- run by: tests/… -->``), or
    why nothing can here (``<!-- not run: … -->``).
    """
    found = list(_BLOCK.finditer(page))
    pairs = zip_longest(found, found[1:])
    fences = (
        (_Fence(*one.groups()), _Fence(*after.groups()) if after and _is_next(page, one, after) else None)
        for one, after in pairs
    )
    return [_block(fence, after) for fence, after in fences if fence.is_typed]


def _is_next(page: str, one: re.Match[str], after: re.Match[str]) -> bool:
    """Return whether nothing stands between two blocks."""
    return not page[one.end() : after.start()].strip()


def untyped(page: str) -> list[str]:
    """Return the first lines of blocks that look like commands and are neither ``sh`` nor ``console``."""
    found = [_Fence(*match.groups()) for match in _BLOCK.finditer(page)]
    lines = (fence.text.splitlines()[0] for fence in found if not fence.is_typed and fence.text)
    return [line for line in lines if _COMMAND.match(line)]


_COMMAND: Final = re.compile(r" *(\$ |(\./inv|purgeline|curl|podman|docker|cp|cd|git|pip|redis-cli) )")


class _Fence(NamedTuple):
    mark: str | None
    says: str | None
    indent: str
    info: str
    text: str

    @property
    def is_typed(self) -> bool:
        return self.info.split()[:1] in (["sh"], ["console"])


def _block(fence: _Fence, after: _Fence | None) -> Block:
    marks = {"run by": "run_by", "not run": "not_run"}
    marked = {marks[fence.mark]: fence.says or ""} if fence.mark else {}
    lines = [line.removeprefix(fence.indent) for line in fence.text.splitlines()]
    kind = fence.info.split()
    if kind[0] == "console":
        typed_lines, shown = _transcript(lines)
        return Block("".join(f"{line}\n" for line in typed_lines), None, shown, **marked)
    code = int(kind[2]) if kind[1:2] == ["exits"] else 0
    follows = after is not None and not after.info and not after.mark
    return Block(
        "".join(f"{line}\n" for line in lines),
        code,
        after.text.splitlines() if after and follows else [],
        **marked,
    )


def _transcript(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return what is typed, and what is shown. Of a line with an ellipsis what stands before it is shown."""
    commands: list[str] = []
    shown: list[str] = []
    goes_on = False
    for line in lines:
        if goes_on or line.startswith(_PROMPT):
            commands.append(line.removeprefix(_PROMPT))
            goes_on = line.endswith("\\")
        elif line.strip(" ─") not in {"", "…", "...", "^C"}:
            shown.append(re.split(r"…|\.\.\.$", line)[0].rstrip())
    return commands, shown


def script_of(typed_blocks: list[Block]) -> str:
    """Return one script of them; it ends with 99 where a block's exit code is another one."""
    lines = []
    for block in typed_blocks:
        ends = f"[ $? = {block.code} ] || exit 99\n" if block.code else ""
        any_code = f"set +e\n{block.script}{ends}set -e\n"
        lines.append(block.script if block.code == 0 else any_code)
    return "".join(lines)


def unsaid(shown: list[str], said: list[str], *, by_shape: bool = False) -> str:
    """Return the first line that was not said behind those before it; nothing where all were, in order.

    Args:
        shown: lines of a page.
        said: what was said; there may be other lines between.
        by_shape: numbers, ids and times may be others; so may words of columns and of sentences, and frames
            of a stack.
    """
    at = 0
    for line in shown:
        found = (
            i for i in range(at, len(said)) if said[i] == line or (by_shape and _is_alike(line, said[i]))
        )
        here = next(found, None)
        if here is None:
            return line
        at = here + 1
    return ""


def _is_alike(shown: str, said: str) -> bool:
    a, b = _NUMBER.sub("N", shown), _NUMBER.sub("N", said)
    if a == b[: len(a)] and a:
        return True
    if _FRAME.match(a):
        return _FRAME.match(b) is not None
    if _is_row_alike(a.split(), b.split()):
        return True
    columns, others = (tuple(_kind(column) for column in _COLUMNS.split(line)) for line in (a, b))
    if len(columns) >= _TABLE and (len(columns) == len(others) or "N" in a):  # a header may be of two lines
        return len(columns) == len(others) and all(
            one in (other, "-") or other == "-" for one, other in zip(columns, others, strict=True)
        )
    return SequenceMatcher(None, a.split(), b.split()).ratio() >= _ALIKE


def _is_row_alike(shown: list[str], said: list[str]) -> bool:
    """Return whether two rows of a terminal's table have the same name and nearly the same kinds of cells."""
    if len(shown) != len(said) or len(shown) < _ROW or shown[0] != said[0]:
        return False
    same = sum(_kind(one) == _kind(other) for one, other in zip(shown, said, strict=True))
    return same >= _ALIKE_CELLS * len(shown)


def _kind(column: str) -> str:
    text = column.strip()
    return "N" if text == "-N" else text if text in {"N", "-"} else "word"


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


def typed(
    script: str,
    folder: Path,
    ports: Ports,
    *,
    env: Mapping[str, str] | None = None,
    is_terminal: bool = False,
) -> tuple[int, str]:
    """Run a script in *folder*; return its exit code and what was said. What it started ends with it.

    Args:
        script: of bash.
        folder: where it runs.
        ports: what stands for the ports that it names.
        env: beside the environment of the test.
        is_terminal: it says things to a terminal, of 80 columns and without colours.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    engine = f"http://127.0.0.1:{ports['9181']}"
    known = {**os.environ, "PATH": path, "PURGELINE_URL": engine, **(env or {})}
    script = script.replace("<<END\n[[node]]", f"<<END\n{ENGINE}[[node]]")
    command = ["bash", "-e", "-c", f"trap 'jobs -p | xargs -r kill; wait' EXIT\n{ports.into(script)}"]
    if is_terminal:
        known |= {"TERM": "dumb", "NO_COLOR": "1"}
        command = ["script", "-qec", shlex.join(command), "/dev/null"]
    pipe = subprocess.PIPE
    shell = subprocess.Popen(
        command, cwd=folder, env=known, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    with contextlib.ExitStack() as ends:
        ends.callback(_end, shell)
        try:
            said, _ = shell.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _end(shell)
            said, _ = shell.communicate()
    return shell.returncode, ports.out_of(_COLOURS.sub("", said))


def _end(shell: subprocess.Popen[str]) -> None:
    """End a shell with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
