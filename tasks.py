"""The project's tasks: parse, call, print. What they do is in `release` and in the tools they call.

``./inv`` keeps the caller's folder, so project files are named from `ROOT`.
Every task has ``positional=[]``: otherwise ``inv TASK --help`` may run the task.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from release.tasks.artefacts import pack, repo
from release.tasks.beginning import init
from release.tasks.building import build
from release.tasks.documents import docs
from release.tasks.hosts import (
    deploy,
    doctor,
    history,
    lock,
    plan,
    prune,
    reload,
    rollback,
    status,
    stop,
    unlock,
    unpack,
    verify,
    version,
)
from release.tasks.states import salt

ROOT = Path(__file__).resolve().parent
NO_TESTS = 5  #: pytest's exit code where nothing was chosen


def run(program: str, *args: str, **variables: str) -> int:
    """Run a program of this environment in the project's folder; return its exit code."""
    command = [str(Path(sys.executable).with_name(program)), *args]
    return subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, **variables}).returncode


def begin(program: str, *args: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a program of this environment in the project's folder; what it prints is one text."""
    command = [str(Path(sys.executable).with_name(program)), *args]
    environ = {**os.environ, **variables}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    )


def run_tests(*chosen: str, rooms: Sequence[str] = (), **variables: str) -> int:
    """Run the tests in all rooms, or in those, that arguments of pytest choose; return its exit code.

    The units, two thirds of all tests, run in a process beside the workers of the others: each worker
    collects all that it may be given, a second for each thousand. When paths are chosen, all run together.
    """
    others = rooms or [path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))]
    paths = [f"tests/{room}" for room in sorted(others) if room != "unit"]
    count = min(6, 3 * (os.cpu_count() or 1))  # most tests wait; with more they wait for each other
    workers = ["--dist", "loadfile", "--no-loadscope-reorder"]
    if any(word.startswith("tests/") for word in chosen):
        return run("pytest", "-n", str(count), *workers, *chosen, **variables)
    apart = ["-n", "0", "-o", "cache_dir=.pytest_cache/unit"]
    units = begin("pytest", *apart, *chosen, "tests/unit", **variables)
    codes = [run("pytest", "-n", str(count - 1), *workers, *chosen, *paths, **variables)]
    print(units.communicate()[0], end="", flush=True)
    codes.append(units.returncode)
    return max((code for code in codes if code != NO_TESTS), default=NO_TESTS)


def ensure_system(purpose: str) -> list[str]:
    """Install missing system packages, or leave with the list of them."""
    from release.lab import system

    try:
        return system.ensure(purpose)
    except system.MissingPackagesError as exc:
        raise Exit(str(exc), code=system.EXIT_MISSING) from exc


def without_compiler() -> str:
    """Return why nothing can be compiled here; nothing where it can."""
    from release.build import compiled

    return compiled.why_not()


def ensure_salt() -> None:
    """Make the environment that has Salt, or leave with the reason."""
    from release import errors
    from release.lab.environment import SALT

    try:
        SALT.ensure()
    except errors.ReleaseError as exc:
        raise Exit(str(exc), code=1) from exc


@task(positional=[], help={"salt": "also install Salt, into .venv-salt (about a minute)"})
def setup(c: Context, salt: bool = False) -> None:  # noqa: F811 - the flag, not the task
    """Install the system packages that the tests use; where that is not possible, list them."""
    if not ensure_system("test"):
        print("system packages: all there")
    if salt:
        ensure_salt()
        print("Salt: there")


@task(
    positional=[],
    help={
        "only": "run the tests whose names match, such as 'reload and not redis'",
        "args": "more arguments for pytest, such as '-x --durations=5'",
        "compiled": "run the hot modules compiled, see `build`; those rooms whose tests run an engine",
        "all_": "also run what takes long and adds little, and then run the engine compiled as well",
        "pythons": "instead: the unit tests on every other Python that this machine has",
    },
)
def test(
    c: Context,
    only: str = "",
    args: str = "",
    compiled: bool = False,
    all_: bool = False,
    pythons: bool = False,
) -> None:
    """Run the tests; missing system packages are installed first."""
    if pythons:
        if code := run("python", "-m", "tests.interpreters"):
            raise Exit(code=code)  # it has said which
        return
    from release.lab.environment import SALT

    ensure_system("test")
    if all_:
        ensure_system("all")
    if not SALT.is_current():  # on a new machine each of the processes below would compile all tests
        compiling = begin("pytest", "--collect-only", "-qq")
        ensure_salt()
        compiling.communicate()
    chosen = ["-m", "not bench"] * all_ + (["-k", only] if only else []) + shlex.split(args)
    code = 0
    if not compiled:
        code = run_tests(*chosen, PURGELINE_INTERPRETED="1", PURGELINE_TEST_FORM="interpreted")
    why_not = "" if compiled else without_compiler()
    if all_ and why_not:
        print(f"not run compiled: {why_not}")
    elif compiled or (all_ and not code):
        build(c)
        code = run_tests(*chosen, rooms=("unit", "contract", "service"), PURGELINE_TEST_FORM="compiled")
    if code:
        raise Exit(f"test: pytest ended with {code}", code=code)


@task(
    positional=[],
    help={
        "only": "only this row, such as 'intake'; several separated by commas",
        "quick": "one short round of each: whether it works, no figures to keep",
        "compare": "bench.json of another run: show what changed",
        "out": "where the figures go (bench.json, growth.json, soak.json); the chart lies beside it",
        "growth": "instead: how costs grow with nodes, subtasks and workers, and what a month costs",
        "soak": "instead: half of the peak on Varnish, nginx and ATS for 30 minutes, and what stays flat",
        "args": "more arguments of these two, such as '--minutes 3' or '--core-hour 0.04'",
    },
)
def bench(
    c: Context,
    only: str = "",
    quick: bool = False,
    compare: str = "",
    out: str = "",
    growth: bool = False,
    soak: bool = False,
    args: str = "",
) -> None:
    """Measure beside what one would use instead, in one run of ten to sixteen minutes."""
    ensure_system("bench")
    if growth or soak:
        name = "growth" if growth else "soak"
        options = ["--quick"] * quick + shlex.split(args)
        where = f"--out={Path(out or f'{name}.json').resolve()}"
        if code := run("python", "-m", f"tests.benchmarks.{name}", *options, where):
            raise Exit(code=code)  # it has said why
        return
    chosen = [f"--only={name.strip()}" for name in only.split(",") if name.strip()]
    chosen += [f"--compare={Path(compare).resolve()}"] * bool(compare) + ["--quick"] * quick
    code = run("python", "-m", "tests.benchmarks", *chosen, f"--out={Path(out or 'bench.json').resolve()}")
    if code:
        raise Exit(code=code)  # it has said why


@task(
    positional=[],
    help={
        "compiled": "also run the unit tests of the hot modules compiled, as CI does",
        "pythons": "also import all, and run some tests, on every other Python that is here, as CI does",
    },
)
def check(c: Context, compiled: bool = False, pythons: bool = False) -> None:
    """Check lint, format, types, imports, and that the hot modules compile: all at once, whichever fails."""
    checks = {
        "ruff check": ("ruff", "check", "."),
        "ruff format": ("ruff", "format", "--check", "."),
        "mypy": ("mypy",),
        "imports": ("lint-imports", "--no-logo"),
        "mypyc": ("python", "-m", "tests.compiling", *["--tests"] * compiled),
    }
    if pythons:
        checks["pythons"] = ("python", "-m", "tests.interpreters", "--quick")
    failed = []
    began = {name: begin(*args) for name, args in checks.items()}
    for name, process in began.items():
        print(f"{name}:", flush=True)
        print(process.communicate()[0], end="", flush=True)
        if process.returncode:
            failed.append(name)
    if failed:
        raise Exit(f"check: failed: {', '.join(failed)}", code=1)


@task(
    positional=[],
    help={
        "keep": "leave the engine and the caches running until Ctrl-C",
        "builtin": "use the built-in caching proxy even where Varnish and nginx are installed",
        "cluster": "three engines on one Redis, of which one is killed under load",
    },
)
def demo(c: Context, keep: bool = False, builtin: bool = False, cluster: bool = False) -> None:
    """Start caches and the engine on this machine, and watch a purge go through; nothing is installed."""
    code = import_module("release.demo").main(keep=keep, builtin=builtin, cluster=cluster)
    if code:
        raise Exit(code=code)  # it has said why
