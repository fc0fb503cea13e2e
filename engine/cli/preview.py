"""``--dry-run``: what tasks would do; and the question that a site's ``confirm_over`` asks back."""

from __future__ import annotations

import sys

from engine.cli.cells import NOTE_COLUMNS, PREVIEW_COLUMNS, SKIPPED_COLUMNS, clean
from engine.cli.connect import connect
from engine.cli.exits import DONE
from engine.client.bodies import encode

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse
    from typing import Final

    from engine.cli.screen import Output
    from engine.client.bodies import Document

_SECTIONS: Final = {
    "nodes": ("node", PREVIEW_COLUMNS),
    "skipped": ("skipped", SKIPPED_COLUMNS),
    "notes": ("note", NOTE_COLUMNS),
}
_YES: Final = frozenset({"y", "yes"})


def preview(args: argparse.Namespace, out: Output, requests: list[Document]) -> int:
    """Print what each of *requests* would do."""
    with connect(args, out) as client:
        for request in requests:
            show(out, client.preview(encode(request)))
    return DONE


def show(out: Output, document: Document) -> None:
    """Print one preview."""
    out.sections(document, _SECTIONS)


def is_terminal() -> bool:
    """Tell whether somebody can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def agrees(reason: str, targets: int) -> bool:
    """Ask on the terminal whether to go on; anything but yes is no.

    Args:
        reason: why that is asked, of the engine.
        targets: that are to be handed in, in all.
    """
    sys.stdout.flush()
    sys.stderr.write(f"purgeline: {clean(reason)}\npurgeline: {targets} targets; go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in _YES
