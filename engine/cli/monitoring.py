"""``purgeline monitoring``: the rules for Prometheus and the dashboard for Grafana that come with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.cli.exits import DONE, FAILED, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output

FILES: Final = {
    "rules.yml": "for Prometheus: name it in rule_files",
    "dashboard.json": "for Grafana: Dashboards, New, Import",
}
_ALERT: Final = "{alert}"
_PAGE: Final = "runbook_url: docs/runbook/"


def add_options(option: Callable[..., argparse.Action]) -> None:
    """Say what the command takes."""
    option("--to", type=Path, required=True, metavar="DIR", help="folder for the files; it is made")
    option(
        "--runbook",
        metavar="URL",
        help=f"where the pages of alerts are read, with {_ALERT} for the name (default: docs/runbook/ of the "
        "source)",
    )


def monitoring(args: argparse.Namespace, out: Output) -> int:
    """Write the files into a folder."""
    if args.runbook is not None and _ALERT not in args.runbook:
        raise UsageError(
            f"--runbook: takes a URL with {_ALERT} in it, such as https://wiki.example.com/purgeline/{_ALERT}"
        )
    from engine.base.templates import folder  # noqa: PLC0415 - brings Jinja, which no other command waits for

    try:
        args.to.mkdir(parents=True, exist_ok=True)
        for name, purpose in FILES.items():
            text = (folder() / "monitoring" / name).read_text(encoding="utf-8")
            (args.to / name).write_text(with_runbook(text, args.runbook), encoding="utf-8")
            if out.as_json:
                out.json({"file": str(args.to / name), "purpose": purpose})
            else:
                out.text(f"{args.to / name}: {purpose}\n")
    except OSError as exc:
        return out.error(f"--to: {exc}", exit_code=FAILED)
    return DONE


def with_runbook(text: str, url: str | None) -> str:
    """Return *text* with the pages of alerts at *url*, in which ``{alert}`` stands for the name."""
    if url is None:
        return text
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        before, found, page = line.partition(_PAGE)
        alert = page.strip().removesuffix(".md")
        lines.append(f"{before}runbook_url: {json.dumps(url.replace(_ALERT, alert))}\n" if found else line)
    return "".join(lines)
