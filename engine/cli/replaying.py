"""``purgeline replay``: sends a recording of traffic to an engine, and compares the answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from engine.cli.exits import DONE, FAILED, UNREACHABLE, UsageError
from engine.client.address import addresses_of, token_of

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from engine.cli.screen import Output
    from engine.recordings.player import Player
    from engine.recordings.report import Report

WORKERS: Final = 32
TIMEOUT_S: Final = 30.0
_SECTIONS: Final = {
    "changes": ("change", ("recorded", "answered", "count")),
    "differences": ("difference", ("request", "recorded", "answered", "detail")),
}


def replay(args: argparse.Namespace, out: Output) -> int:
    """Send a recording; exit 0 when every request was answered as it was recorded."""
    import asyncio  # noqa: PLC0415 - other commands start without these

    from engine.errors import RecordingError  # noqa: PLC0415
    from engine.recordings.player import UnreachableError  # noqa: PLC0415
    from engine.recordings.report import Report  # noqa: PLC0415

    report = Report()
    code = DONE
    try:
        player, path = _player(args, report), args.recording
        asyncio.run(_run(player, path, loops=args.loop, limit=args.limit or 0))
    except UnreachableError as exc:
        return out.error(str(exc), exit_code=UNREACHABLE)
    except RecordingError as exc:
        code = out.error(str(exc), exit_code=FAILED)
    except KeyboardInterrupt:
        out.notice("broken off: what was sent so far")
    document = report.document()
    if not report.sent and code == DONE:
        return out.error(f"{args.recording}: there is no request in it", exit_code=FAILED)
    out.sections(document, _SECTIONS)
    return max(code, DONE if report.is_alike else FAILED)


async def _run(player: Player, path: Path, *, loops: bool, limit: int) -> None:
    from engine.recordings.gor import read  # noqa: PLC0415
    from engine.recordings.player import passes_of  # noqa: PLC0415

    await player.run(passes_of(lambda: read(path), loops=loops), limit)


def _player(args: argparse.Namespace, report: Report) -> Player:
    from engine.recordings.player import Player  # noqa: PLC0415
    from engine.recordings.rewriting import Rewriting  # noqa: PLC0415

    try:
        addresses, token = addresses_of(args.engine), token_of(args.token)
    except ValueError as exc:
        raise UsageError(f"--engine or --token: {exc}") from exc
    if len(addresses) > 1:
        raise UsageError("--engine: a recording is sent to one engine")
    hosts: dict[str, str] = {}
    for pair in args.rewrite_host:
        before, sign, after = pair.partition("=")
        if not (sign and before and after):
            raise UsageError(
                f"--rewrite-host {pair!r}: takes RECORDED=SENT, such as www.example.com=test.example.com"
            )
        hosts[before] = after
    rewriting = Rewriting(
        f"r{os.urandom(3).hex()}",
        token=token,
        hosts=hosts,
        keeps_callbacks=args.keep_callbacks,
    )
    options: dict[str, Any] = {"speed": args.speed, "workers": args.workers or WORKERS}
    return Player(addresses[0].url, rewriting, report, timeout_s=args.timeout or TIMEOUT_S, **options)
