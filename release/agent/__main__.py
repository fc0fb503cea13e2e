"""``python3 -I DIR OPERATION``: one operation on this host, a JSON object on standard input, JSON lines back.

The lines are any number of ``{"event": …}`` and then exactly one answer, ``{"ok": true, …}`` or
``{"ok": false, "error": SENTENCE, "kind": WORD}``; the exit code is 0 or 1 accordingly, 2 for input that
cannot be used. Operations need Python 3.11. Python 3.8 can read this module, so that it says so, and is
enough for ``apply``: Salt may be what brings a newer Python.

DIR is the package whatever its name is, and is taken off the path for imports: none of its modules can hide
one of the standard library.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types

PYTHON_MIN = (3, 11)
APPLY = "apply"


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit code."""
    if argv[:1] != [APPLY] and sys.version_info < PYTHON_MIN:
        version = "{}.{}".format(*sys.version_info[:2])
        error = f"this host has Python {version}; 3.11 or newer is needed"
        print(json.dumps({"ok": False, "kind": "python", "error": error}), flush=True)
        return 1
    name = __package__ or _package_of(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    module = "salt" if argv == [APPLY] else "program"
    return importlib.import_module(f"{name}.{module}").main(argv)  # type: ignore[no-any-return]


def _package_of(folder: str) -> str:
    """Make a package of the folder and return its name."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != folder]  # noqa: PTH100
    package = sys.modules["agent"] = types.ModuleType("agent")
    package.__path__ = [folder]
    return "agent"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
