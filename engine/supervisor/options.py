"""The command line of the supervisor."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, its paths made absolute, except those that follow from ``data_dir``."""

    root: Path | None
    config: Path
    control: Path | None
    run_dir: Path | None
    release: Path | None
    workers: int
    listen: str  #: empty: from the configuration
    bake_s: float
    wait_s: float  #: for the orphans of a killed supervisor
    start_timeout_s: float  #: for a worker outside a reload
    handover: int | None  #: descriptor of the state of the supervisor before this one
    check: bool  #: only say whether that state is understood

    @property
    def folder(self) -> Path:
        """The working directory, which relative paths of the configuration mean."""
        return self.root / "shared" if self.root else self.config.parent

    def argv(self) -> list[str]:
        """Return arguments that mean the same from any folder."""
        arguments = []
        for name, value in (
            ("root", self.root),
            ("config", self.config),
            ("control", self.control),
            ("run-dir", self.run_dir),
            ("release", self.release),
            ("workers", self.workers),
            ("listen", self.listen),
            ("bake", self.bake_s),
            ("wait", self.wait_s),
            ("start-timeout", self.start_timeout_s),
        ):
            if value not in {None, ""}:
                arguments += [f"--{name}", str(value)]
        return arguments


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86400:  # noqa: PLR2004 - a day
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 256):  # noqa: PLR2004 - more processes than any host has cores
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 256")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisor.py",
        description="Runs the workers of one purgeline engine and reloads them without refusing a request.",
        epilog="Relative paths are below --root when that is given.",
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--root", type=Path, metavar="DIR", help="host folder with current, releases/ and shared/")
    option("--config", type=Path, metavar="F", help="TOML file (default with --root: shared/engine.toml)")
    option("--control", type=Path, metavar="PATH", help="control socket (default: control.sock in --run-dir)")
    option("--run-dir", type=Path, metavar="DIR", help="sockets of workers (default: shared/run or DATA/run)")
    option("--release", type=Path, metavar="DIR", help="release to start with (default: current of --root)")
    option("--workers", type=_count, default=1, metavar="N", help="processes (default 1)")
    option("--listen", default="", metavar="HOST:PORT", help="instead of engine.listen")
    option("--bake", type=_number, default=5.0, metavar="S", help="watch a new release so long (default 5)")
    option("--wait", type=_number, default=60.0, metavar="S", help="wait for workers of a killed supervisor")
    option("--start-timeout", type=_number, default=60.0, metavar="S", help="until a worker must be ready")
    option("--handover", type=int, metavar="FD", help=argparse.SUPPRESS)
    option("--check", action="store_true", help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str]) -> Options:
    """Return the options of a command line.

    Raises:
        SystemExit: after ``--help`` (0) or a mistake (2), both told already.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.config is None and args.root is None:
        parser.error("--config or --root is needed")
    base = (args.root or Path()).absolute()
    below = {
        name: base / value for name in ("control", "run_dir", "release") if (value := getattr(args, name))
    }
    if args.root:
        below.setdefault("run_dir", base / "shared/run")
    return Options(
        root=base if args.root else None,
        config=base / (args.config or "shared/engine.toml"),
        control=below.get("control"),
        run_dir=below.get("run_dir"),
        release=below.get("release"),
        workers=args.workers,
        listen=args.listen,
        bake_s=args.bake,
        wait_s=args.wait,
        start_timeout_s=args.start_timeout,
        handover=args.handover,
        check=args.check,
    )
