"""What states did or would do, for a person: a line for each state that changed or failed, and its diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from release.states.results import HostStates, State

NOTICE: Final = "test.show_notification"  #: a state that only has something to say
_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def show(results: Iterable[HostStates], console: Console, *, is_test: bool) -> None:
    """Print each host's states that changed or failed, then a line for each host."""
    results = list(results)
    for result in results:
        if result.changed or result.failed:
            console.print(f"[bold]{escape(result.host)}[/]")
        for state in result.states:
            for line in describe(state):
                style = _STYLES.get(line.lstrip()[:1], "") if line.startswith("      ") else ""
                console.print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)
    for result in results:
        _summarize(result, console, is_test=is_test)


def describe(state: State) -> list[str]:
    """Return lines that say what a state did or would do; no lines for a state with nothing to change.

    The first has one of ``✗`` (failed), ``~`` (would change), ``✓`` (changed) and ``!`` (has something to
    say); those of a diff are indented by six.
    """
    if state.result is False:
        return [f"  ✗ {state.id}", *_indent(state.comment, 6)]
    if state.result is not None and not state.changes:
        return [f"  ! {state.id}", *_indent(state.comment, 6)] if state.function == NOTICE else []
    lines = [f"  {'~' if state.result is None else '✓'} {state.id}  {state.name}"]
    for name, value in state.changes.items():
        if name == "diff" and isinstance(value, str):
            lines += _indent(value, 6)
        elif name == "newfile":
            lines.append("      + new file")
        elif not (name in {"pid", "retcode"} or value in ("", None, state.name)):
            lines += _indent(f"{name}: {_words(value)}", 6)
    return lines


def _words(value: Any) -> str:
    if isinstance(value, dict):
        if set(value) == {"old", "new"}:
            return f"{_words(value['old'])} → {_words(value['new'])}"
        return ", ".join(f"{name}: {_words(inner)}" for name, inner in value.items())
    return str(value)


def _indent(text: str, width: int) -> list[str]:
    return [" " * width + line for line in text.strip("\n").splitlines()]


def _summarize(result: HostStates, console: Console, *, is_test: bool) -> None:
    changes = (
        f"{len(result.changed)} of {len(result.states)} states {'would change' if is_test else 'changed'}"
    )
    if result.ok:
        console.print(f"{escape(result.host)}: [green]ok[/], {changes}", highlight=False)
        return
    console.print(f"{escape(result.host)}: [red]failed[/]: {escape(result.reason)}", highlight=False)
    for line in result.log:
        console.print(f"    {line}", markup=False, highlight=False)
