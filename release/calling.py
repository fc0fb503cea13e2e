"""How the pipeline's tasks are called: ``./inv TASK`` in a checkout, else ``python -m release TASK``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

MODULE: Final = "python -m release"
_SCRIPT: Final = Path(__file__).resolve().parents[1] / "inv"


def call(task: str) -> str:
    """Return the command that runs *task*, with its arguments if it has some, as this program was called."""
    program = Path(sys.argv[0])
    is_module = (program.parent.name, program.name) == ("release", "__main__.py")
    return f"{MODULE if is_module or not _SCRIPT.is_file() else './inv'} {task}"
