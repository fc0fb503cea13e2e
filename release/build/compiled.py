"""The hot modules as machine code: mypyc translates them to C, the machine's compiler builds that.

The sources stay as they are and stand beside what is built of them, so an engine runs in either form. The
same sources, compiler, Python and mypy give the same bytes wherever they lie, so what was built is kept.
"""

from __future__ import annotations

import ast
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOT: Final = (
    "engine.base.timer",
    "engine.delivery.dispatch",
    "engine.delivery.endings",
    "engine.delivery.expansion",
    "engine.delivery.inbox",
    "engine.delivery.journal_rows",
    "engine.delivery.layout",
    "engine.delivery.load",
    "engine.delivery.parking",
    "engine.delivery.touched",
    "engine.doors.cdni.connection",
    "engine.doors.purge.connection",
    "engine.intake.admission",
    "engine.intake.client",
    "engine.intake.draft",
    "engine.intake.drafting",
    "engine.intake.fast_lane",
    "engine.intake.heads",
    "engine.intake.host_rules",
    "engine.intake.pipeline",
    "engine.intake.plain_tasks",
    "engine.intake.replies",
    "engine.intake.room",
    "engine.intake.slot",
    "engine.intake.targets",
    "engine.intake.task_replies",
    "engine.intake.topology",
    "engine.intake.urls",
    "engine.intake.validate",
    "engine.intake.verify_asked",
    "engine.nodes.answer",
    "engine.nodes.channel",
    "engine.nodes.channels",
    "engine.nodes.connection",
    "engine.nodes.counting",
    "engine.nodes.drivers.by_path",
    "engine.nodes.health",
    "engine.nodes.holds",
    "engine.nodes.judge",
    "engine.nodes.node",
    "engine.nodes.queue",
    "engine.nodes.readings",
    "engine.nodes.runs",
    "engine.nodes.suspects",
    "engine.nodes.wire",
    "engine.observe.audit",
    "engine.observe.meters",
    "engine.saver.own_records",
    "engine.saver.pool",
    "engine.saver.saver",
    "engine.saver.telling",
    "engine.saver.work",
    "engine.tasks.by_node",
    "engine.tasks.column_numbers",
    "engine.tasks.columns",
    "engine.tasks.documents",
    "engine.tasks.line_hashes",
    "engine.tasks.packing",
    "engine.tasks.region",
    "engine.tasks.shards",
    "engine.tasks.task",
)
"""What runs for each task, purge or answer. They are one unit: each is compiled, or none is."""
GROUP: Final = "purgeline"
LIBRARY: Final = f"{GROUP}__mypyc"  #: module that holds all code; the others are doors into it
GLIBC_MINOR_MAX: Final = 28  #: wheels run on hosts with glibc 2.28, of 2018, and newer
_KEPT: Final = 4
_SAID_LINES: Final = 15
_GLIBC: Final = re.compile(rb"\0GLIBC_2\.(\d+)")
#: Of the tree and of the machine nothing remains in the bytes: no debug information, no paths, no names.
_BUILD: Final = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from mypyc.build import mypycify
from setuptools import setup
from setuptools._distutils.ccompiler import CCompiler

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
            extra_postargs=None, depends=None):
    options, objects, after, before, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs
    )
    arguments = self._get_cc_args(before, debug, extra_preargs)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = [pool.submit(self._compile, name, *build[name], arguments, after, before) for name in objects]
    for one in done:
        one.result()
    return objects

CCompiler.compile = compile
paths = [name.replace(".", "/") + ".py" for name in sys.argv[2:]]
modules = mypycify(paths, opt_level=sys.argv[1], debug_level="0", group_name="purgeline", multi_file=True)
for module in modules:
    module.extra_compile_args += ["-Wno-error", "-ffile-prefix-map=/=/"]
    module.extra_link_args += ["-s", "-Wl,--build-id=none"]
sys.argv[1:] = ["-q", "build_ext", "--build-lib", "built"]
setup(name="purgeline", packages=[], ext_modules=modules)
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What was built: a folder of modules, to be laid over the packages."""

    folder: Path
    compiler: str  #: what built it, such as ``mypyc 1.19.0, gcc 12.2.0``

    def modules(self) -> Iterator[tuple[str, Path]]:
        """Give each file, by its place beside the packages."""
        for path in sorted(self.folder.rglob("*.so")):
            yield str(path.relative_to(self.folder)), path


def why_not(python: str = "", platform: str = "") -> str:
    """Return why nothing can be compiled here for *python* and *platform*; nothing where it can.

    Args:
        python: such as ``cp311``; by default the one that runs this.
        platform: such as ``linux_x86_64``; by default this machine.
    """
    own = f"cp3{sys.version_info.minor}"
    machine = f"linux_{os.uname().machine}"
    if python not in {"", own} or platform not in {"", machine}:
        return f"this is {own} on {machine}, not {python or own} on {platform or machine}"
    if shutil.which(_compiler()) is None:
        return f"no C compiler ({_compiler()}) is installed"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's C headers are not installed (python3-dev)"
    if find_spec("mypyc") is None or find_spec("setuptools") is None:
        return "mypyc is not installed (mypy[mypyc])"
    return ""


def build(tree: Path, kept: Path, *, level: str = "2") -> Compiled:
    """Return the hot modules of the checkout or export *tree*, compiled; see `why_not` before.

    Args:
        tree: has the folder ``engine``.
        kept: a folder where what was built stays, by what it was built of.
        level: of the C compiler's optimisation.

    Raises:
        ArtefactError: they cannot be compiled; with what was said last.
    """
    taken = sources(tree)
    compiler = f"mypyc {metadata.version('mypy')}, {compiler_version()}"
    key = sha256(f"{compiler}\n{sys.version}\n{level} {HOT}\n{_BUILD}".encode())
    for name, path in taken.items():
        key.update(f"{name} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    folder = kept / "compiled" / key.hexdigest()[:20]
    if folder.is_dir():
        os.utime(folder)
        return Compiled(folder, compiler)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{secrets.token_hex(4)}")
    try:
        with tempfile.TemporaryDirectory(prefix="purgeline-compile-") as work:
            for name, path in taken.items():
                Path(work, name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, Path(work, name))
            _compile(Path(work), level)
            shutil.copytree(Path(work, "built"), fresh)
        if not folder.is_dir():  # else another build was quicker
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _forget_old(folder.parent)
    return Compiled(folder, compiler)


def sources(tree: Path) -> dict[str, Path]:
    """Return the sources that the hot modules are compiled of, by their place in *tree*.

    Those are the modules and all that they import, for types alone too: compiled code holds their constants.
    """
    found: dict[str, Path] = {}
    pending = list(HOT)
    while pending:
        place = pending.pop().replace(".", "/")
        for path in (f"{place}.py", f"{place}/__init__.py"):
            if path not in found and (tree / path).is_file():
                found[path] = tree / path
                pending += _imported((tree / path).read_bytes())
    return dict(sorted(found.items()))


def _imported(text: bytes) -> Iterator[str]:
    """Give every name of the engine that a source imports, and the packages around it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "engine":
                yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def compiler_version() -> str:
    """Return what the C compiler says of itself, such as ``cc (Debian 12.2.0-14) 12.2.0``."""
    said = subprocess.run([_compiler(), "--version"], check=False, capture_output=True, text=True)
    return said.stdout.partition("\n")[0].strip() or _compiler()


def _compiler() -> str:
    """Return the program that builds extensions of this Python."""
    return str(sysconfig.get_config_var("CC") or "cc").split()[0]


def _compile(work: Path, level: str) -> None:
    """Compile in the folder *work*, into ``built`` there."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), "LC_ALL": "C.UTF-8"}
    environment |= {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BUILD, level, *HOT],
        check=False,
        cwd=work,
        env=environment,
        umask=0o022,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ArtefactError("the hot modules could not be compiled:\n" + "\n".join(said[-_SAID_LINES:]))
    for path in (work / "built").rglob("*.so"):
        needed = max(map(int, _GLIBC.findall(path.read_bytes())), default=0)
        if needed > GLIBC_MINOR_MAX:
            hosts = f"hosts have 2.{GLIBC_MINOR_MAX} or newer; pack with --pure"
            raise ArtefactError(f"{path.name} needs glibc 2.{needed}, {hosts}")


def _forget_old(folder: Path) -> None:
    """Remove all but what was used last."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [path for path in found if not path.name.startswith(".")][_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
