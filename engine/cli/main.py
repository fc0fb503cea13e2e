"""The command ``purgeline``: reads arguments, asks the engine, prints, and exits with how it went.

Exit codes: 0 done, or accepted without ``--wait``; 1 failed or partial; 2 the request or the
configuration is wrong; 3 no engine answered, or it stays too busy; 130 after Ctrl-C. Never a
traceback, unless Python runs in development mode (``python -X dev -m engine``).

A command that only talks to an engine imports little of the standard library, and nothing else: most of what
its user waits for is the start of Python. ``--version`` alone needs no more than this module.
"""

from __future__ import annotations

import sys

from engine._version import __version__

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.cli.parser import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return 0 if list(words) == ["--version"] and _tells_version() else _run(words)


def _tells_version() -> bool:
    """Print the version; tell whether it is printed: `_run` says what is wrong with the output."""
    try:
        sys.stdout.write(f"purgeline {__version__}\n")
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # AttributeError: closed by the shell, >&-
        return False
    return True


def _run(words: Sequence[str]) -> int:
    try:
        from engine.cli import screen  # noqa: PLC0415 - see above
        from engine.cli.arguments import parse  # noqa: PLC0415 - as screen
        from engine.cli.exits import FAILED, INTERRUPTED, USAGE, fail  # noqa: PLC0415 - as screen
    except KeyboardInterrupt:  # Ctrl-C while they load
        return 130
    out = screen.Output(as_json=False)
    try:
        args = parse(words)
        out = screen.Output(as_json=args.json, is_human=args.human)
        command: Command = args.run
        code = command(args, out)
    except SystemExit as exc:  # argparse: 0 after --help, 2 after its own message
        code = exc.code if isinstance(exc.code, int) else USAGE
    except KeyboardInterrupt:
        code = out.error("interrupted", exit_code=INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - a user gets one line, whatever it was
        code = fail(out, exc)
    try:
        screen.finish()
    except OSError as exc:
        screen.discard()
        code = max(code, out.error(f"the output could not be written: {exc}", exit_code=FAILED))
    return code
