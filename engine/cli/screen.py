"""The screen: tables and a progress bar in a terminal, plain lines in a pipe, or JSON.

Plain lists are tab-separated without a header, plain documents ``key value`` lines, JSON is one
document a line. rich is imported only for a terminal: it costs more start-up time than all the
rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from engine.cli.cells import (
    ERROR_COLUMNS,
    FINDING_COLUMNS,
    HELD_COLUMNS,
    LAST_ERROR_COLUMNS,
    LAYER_COLUMNS,
    NOTE_COLUMNS,
    REASON_COLUMNS,
    SHARE_COLUMNS,
    TASK_COLUMNS,
    WIDE_COLUMNS,
    by_note,
    clean,
    distinct,
    flatten,
    held_of,
    merge_layers,
    plain,
    reasons_of,
    rows_of,
    shown,
)
from engine.cli.layout import whole_words

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from rich.console import Console

    from engine.client.bodies import Document

ERRORS_SHOWN = 10
TARGETS_SHOWN = 10  #: in a terminal
_PLURALS = {"held": "held", "leaf": "leaves", "leaves": "leaves"}
_IN_ROWS = frozenset({"layers", "errors", "notes", "skipped", "targets", "nodes", "regions", "leaves"})
"""Of a task, below its numbers."""


class Output:
    """Standard output and standard error of one command.

    Args:
        as_json: print documents as JSON, and errors as JSON on standard error.
        is_human: print as for a terminal, wherever it goes.
    """

    def __init__(self, *, as_json: bool, is_human: bool = False) -> None:
        self.as_json = as_json
        is_drawn = _can_draw(sys.stdout) or (is_human and _has_rich())
        self._is_rich = not as_json and is_drawn
        self._cell: Callable[[str, Any], str] = shown if is_human else lambda _key, value: plain(value)

    def documents(self, documents: Sequence[Document], columns: Sequence[str]) -> None:
        """Print one row for each document."""
        if self.as_json:
            for document in documents:
                self.json(document)
        elif documents:
            self._table("", columns, documents)

    def listing(self, document: Document, key: str, columns: Sequence[str]) -> None:
        """Print the list that *document* holds under *key*."""
        if self.as_json:
            self.json(document)
        else:
            narrow = [column for column in columns if not (self._is_rich and column in WIDE_COLUMNS)]
            self._table("", narrow, document[key])
            if self._is_rich and "last_error" in columns:
                failing = [row for row in document[key] if row.get("last_error")]
                self._details("error", LAST_ERROR_COLUMNS, failing)
            if self._is_rich and "notes" in columns:
                self._details("held", HELD_COLUMNS, held_of(document[key]))
                self._details("reason", REASON_COLUMNS, reasons_of(document[key]))
                self._details("note", NOTE_COLUMNS, by_note(document[key]))

            if self._is_rich and "remedy" in columns:
                told = [row for row in document[key] if row.get("reason") and row["verdict"] != "ok"]
                self._details("finding", FINDING_COLUMNS, told)

    @property
    def is_rich(self) -> bool:
        """Whether it prints for people."""
        return self._is_rich

    def rows(self, what: str, columns: Sequence[str], rows: Sequence[Document]) -> None:
        """Print rows below others, each called *what*."""
        self._details(what, columns, rows)

    def failures(self, documents: Sequence[Document]) -> None:
        """Print the first errors of tasks, below their list."""
        errors = [error for document in documents for error in rows_of(document, "errors")]
        if self._is_rich:
            self._details("error", ERROR_COLUMNS, errors[:ERRORS_SHOWN])

    def mapping(self, document: Document) -> None:
        """Print a document whose values are scalars, or mappings of scalars."""
        if self.as_json:
            self.json(document)
        else:
            self._pairs(list(flatten(document)))

    def sections(self, document: Document, sections: Mapping[str, tuple[str, Sequence[str]]]) -> None:
        """Print a document: its values, then rows for each of its lists.

        Args:
            document: what is shown.
            sections: key of a list → what a row of it is called, and its columns.
        """
        if self.as_json:
            self.json(document)
            return
        values = {key: value for key, value in document.items() if key not in sections}
        self._pairs(list(flatten(values)))
        for key, (what, columns) in sections.items():
            self._details(what, columns, rows_of(document, key))

    def results(self, documents: Sequence[Document], *, is_whole: bool = False) -> None:
        """Print what became of tasks: numbers, rows of layers, notes, the first errors, skipped nodes.

        With *is_whole* their targets and nodes, too.
        """
        if self.as_json:
            self.documents(documents, ())
            return
        if len(documents) == 1:
            fields = documents[0].items()
            self._pairs(list(flatten({key: value for key, value in fields if key not in _IN_ROWS})))
        else:
            self._table("", TASK_COLUMNS, documents)
        self._details("layer", LAYER_COLUMNS, merge_layers(documents))
        for document in documents if is_whole else ():
            self._details("node", SHARE_COLUMNS, rows_of(document, "nodes"))
            self._targets(document)
        self._details("note", NOTE_COLUMNS, distinct(documents, "notes"))
        errors = [error for document in documents for error in rows_of(document, "errors")]
        listed = errors if is_whole and not self._is_rich else errors[:ERRORS_SHOWN]
        self._details("error", ERROR_COLUMNS, listed)
        known = max(len(errors), sum(int(document.get("failed") or 0) for document in documents))
        if listed and known > len(listed):
            more = known - len(listed)
            self._write(f"... and {more} more errors\n" if self._is_rich else f"more_errors {more}\n")
        self._skipped(distinct(documents, "skipped"))

    def text(self, text: str) -> None:
        """Print *text* of our own as it is, with a line end of its own."""
        self._write(text)

    def sentence(self, text: str) -> None:
        """Print one line of what came over the network; in a terminal its words stay whole."""
        if self._is_rich:
            from engine.cli.drawing import folded  # noqa: PLC0415 - only a terminal pays for rich

            self._draw(lambda console: folded(console, clean(text)))
        else:
            self._write(f"{clean(text)}\n")

    def json(self, document: Document) -> None:
        """Print *document* as one line of JSON."""
        self._write(json.dumps(document) + "\n")

    def error(self, text: str, *, exit_code: int, status: int | None = None) -> int:
        """Say on standard error what went wrong, and return *exit_code*."""
        if self.as_json:
            say(json.dumps({"error": text, "status": status, "exit_code": exit_code}))
        else:
            say(f"purgeline: {clean(text)}")
        return exit_code

    def notice(self, text: str) -> None:
        """Say on standard error what the command is doing; nothing in JSON."""
        if not self.as_json:
            say(f"purgeline: {clean(text)}")

    def interim(self, text: str) -> None:
        """Say on standard error what goes wrong, or well again, while the command goes on; in JSON, too."""
        if self.as_json:
            say(json.dumps({"notice": text}))
        else:
            self.notice(text)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[Sequence[Document]], None]]:
        """Give a function that shows on standard error how far tasks are, and what they wait for.

        In a terminal it is a bar for each layer, with the nodes below; in a pipe a line now and then; with
        JSON nothing.
        """
        if self.as_json or not _can_draw(sys.stderr):
            from engine.cli.waiting import Pulse  # noqa: PLC0415 - of those that wait

            yield Pulse(self.notice)
            return
        from engine.cli import bars  # noqa: PLC0415 - only a terminal pays for rich

        with bars.drawn() as show:
            yield show

    def _targets(self, document: Document) -> None:
        """Print the targets of a task: to a terminal the first few, to a pipe all that the engine tells."""
        told = document.get("targets") or []
        count = int(document.get("target_count") or 0)
        listed = told[:TARGETS_SHOWN] if self._is_rich else told
        for target in listed:
            self._write(f"target {plain(target)}\n")
        if count > len(listed):
            more = count - len(listed)
            self._write(f"... and {more} more targets\n" if self._is_rich else f"more_targets {more}\n")

    def _skipped(self, rows: Sequence[Document]) -> None:
        """Print the last line: the nodes that were not purged."""
        if rows and self._is_rich:
            named = (f"{plain(row.get('name'))} ({plain(row.get('reason'))})" for row in rows)
            self.sentence(f"skipped: {', '.join(named)}")
        elif rows:
            self._write(f"skipped {','.join(plain(row.get('name')) for row in rows)}\n")

    def _details(self, what: str, columns: Sequence[str], rows: Sequence[Document]) -> None:
        if not rows:
            return
        if self._is_rich:
            self._table(_PLURALS.get(what, f"{what}s"), columns, rows)
            return
        for row in rows:
            if what == "layer" or columns is SHARE_COLUMNS:
                numbers = " ".join(f"{key} {self._cell(key, row.get(key))}" for key in columns[1:])
                self._write(f"{what} {plain(row.get('name'))} {numbers}\n")
            else:
                self._write(f"{what} {' '.join(self._cell(key, row.get(key)) for key in columns)}\n")

    def _pairs(self, pairs: Sequence[tuple[str, Any]]) -> None:
        if self._is_rich:
            from engine.cli.drawing import pairs as drawn  # noqa: PLC0415 - only a terminal pays for rich

            self._draw(lambda console: drawn(console, pairs))
            return
        for key, value in pairs:
            self._write(f"{clean(key)} {self._cell(key, value)}\n")

    def _table(self, title: str, columns: Sequence[str], rows: Sequence[Document]) -> None:
        if self._is_rich:
            from engine.cli.drawing import table  # noqa: PLC0415 - only a terminal pays for rich

            self._draw(lambda console: table(console, title, columns, rows))
            return
        for row in rows:
            self._write("\t".join(self._cell(column, row.get(column)) for column in columns) + "\n")

    def _draw(self, draw: Callable[[Console], None]) -> None:
        from engine.cli import drawing  # noqa: PLC0415 - only a terminal pays for rich

        console = drawing.console()
        with console.capture() as drawn:
            draw(console)
        self._write(drawn.get())

    def _write(self, text: str) -> None:
        """Write *text*; once its reader has gone, to nowhere, so that the exit code stays the task's."""
        if sys.stdout is not None:  # closed by the shell: >&-
            encoding = sys.stdout.encoding or "utf-8"
            with _quiet_when_reader_left():
                sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def finish() -> None:
    """Flush standard output; quiet when its reader has gone (``| head``).

    Raises:
        OSError: what was printed could not be written, such as to a full disk.
    """
    if sys.stdout is not None:  # closed by the shell: >&-
        with _quiet_when_reader_left():
            sys.stdout.flush()


def say(text: str) -> None:
    """Write one line to standard error, if anybody listens; in a terminal its words stay whole."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            text = whole_words(text, os.get_terminal_size(sys.stderr.fileno()).columns)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def _quiet_when_reader_left() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        discard()


def discard() -> None:
    """Send what is still to be written to standard output to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _can_draw(stream: Any) -> bool:
    """Tell whether *stream* is a terminal, and rich is installed: the extra ``terminal``."""
    return stream is not None and stream.isatty() and _has_rich()


def _has_rich() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - of no use in a pipe

    return find_spec("rich") is not None
