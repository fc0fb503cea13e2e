"""``python -m release``: the pipeline's tasks where it is installed by pip; in a checkout, ``./inv``."""

from __future__ import annotations

import importlib
import sys

from release.calling import MODULE

TASKS = {
    "artefacts": ("pack", "repo"),
    "beginning": ("init",),
    "states": ("salt",),
    "hosts": (
        *(
            "deploy",
            "doctor",
            "history",
            "lock",
            "plan",
            "prune",
            "reload",
            "rollback",
            "status",
            "stop",
            "unlock",
        ),
        *("unpack", "verify", "version"),
    ),
}


def main() -> None:
    """Run the task that the arguments name; it ends the program."""
    try:
        from invoke.collection import Collection  # noqa: PLC0415 - it may not be there

        from release.tasks.program import Tasks  # noqa: PLC0415
    except ModuleNotFoundError:
        sys.exit("the pipeline needs more packages: pip install 'purgeline[release]'")
    from engine._version import __version__  # noqa: PLC0415

    tasks = Collection()
    for module, names in TASKS.items():
        found = importlib.import_module(f"release.tasks.{module}")
        for name in names:
            tasks.add_task(getattr(found, name))
    Tasks(name=MODULE, binary=MODULE, version=__version__, namespace=tasks).run([MODULE, *sys.argv[1:]])


if __name__ == "__main__":
    main()
