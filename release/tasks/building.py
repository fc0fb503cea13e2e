"""``build``: the hot modules of this checkout as machine code."""

from __future__ import annotations

from invoke.context import Context  # noqa: TC002  # Invoke looks at the first parameter
from invoke.exceptions import Exit
from invoke.tasks import task


@task(
    positional=[],
    help={"clean": "remove what was built: the engine runs interpreted again"},
)
def build(c: Context, clean: bool = False) -> None:
    """Compile the hot modules of this checkout; engines that start from it run them while it is unchanged."""
    from pathlib import Path

    from release.build import checkout, compiled
    from release.errors import ReleaseError
    from release.settings import ROOT, load_settings

    if clean:
        print("removed: it runs interpreted" if checkout.clean(ROOT) else "there was nothing to remove")
        return
    why = compiled.why_not()
    if why:
        raise Exit(f"build: {why}; nothing else needs it, the engine runs interpreted", code=1)
    try:
        built = checkout.build(ROOT, Path(load_settings().cache_dir).expanduser())
    except ReleaseError as exc:
        raise Exit(f"build: {exc}", code=1) from exc
    print(f"{len(compiled.HOT)} modules compiled ({built.compiler}), until one of their sources changes")
