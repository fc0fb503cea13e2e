"""From the arguments to a running supervisor."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from . import program
from .errors import INTERRUPTED, USAGE, SupervisorError
from .handover import UNDERSTOOD, Handover
from .options import parse
from .output import Output
from .program import Program
from .supervisor import Supervisor
from .table import EngineTable, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .options import Options


def main(
    argv: Sequence[str] | None = None,
    *,
    worker_command: Sequence[str] | None = None,
    version: str = "",
    path: Path = program.FOLDER,
) -> int:
    """Run a supervisor to its end and return the exit code: 0 stopped, 1 failed, 2 wrong usage.

    Args:
        argv: arguments, default the process's.
        worker_command: starts a worker; ``--config F`` is added. Without it, the release's own Python.
        version: that such a worker must have; empty: any.
        path: of the file or folder that ``python3 -I`` runs as this supervisor, for its replacement.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else USAGE
    output = Output()
    try:
        before = None if options.handover is None else Handover.read(options.handover)
        if options.check:
            os.write(1, UNDERSTOOD)
            return 0
        own = Program(
            path=path,
            sha256=program.sha256_of(path),
            worker_command=list(worker_command) if worker_command else None,
            version=version,
        )
        return _run(options, output, own, before)
    except SupervisorError as exc:
        output.say(str(exc))
        return exc.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        output.flush(1)


def _run(options: Options, output: Output, own: Program, before: Handover | None) -> int:
    try:
        os.chdir(options.folder)
    except OSError as exc:
        raise SupervisorError(f"{options.folder}: {exc.strerror}", exit_code=USAGE) from exc
    if before is None:
        table = read_table(options.config, listen=options.listen)
    else:
        assert options.handover is not None
        os.close(options.handover)
        table = EngineTable(**before.table)
        own = Program(
            path=own.path, sha256=own.sha256, worker_command=before.worker_command, version=before.version
        )

    async def supervise() -> int:
        return await Supervisor(options, table, output, program=own, before=before).run()

    return asyncio.run(supervise())
