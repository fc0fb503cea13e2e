"""``purgeline replay``: sends a recording of traffic to an engine, and compares the answers.

With ``--beside`` it is sent to a second engine, too, turn about, and the answers of the two are compared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from engine.cli.exits import DONE, FAILED, UNREACHABLE, UsageError
from engine.client.address import addresses_of, token_of

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from engine.cli.screen import Output
    from engine.recordings.comparison import Comparison
    from engine.recordings.player import Player
    from engine.recordings.report import Report
    from engine.recordings.rewriting import Rewriting

WORKERS: Final = 32
TIMEOUT_S: Final = 30.0
SLICE: Final = 500  #: requests
_SECTIONS: Final = {
    "changes": ("change", ("recorded", "answered", "count")),
    "differences": ("difference", ("request", "recorded", "answered", "detail")),
}
_BESIDE_SECTIONS: Final = {
    "changes": ("change", ("beside", "engine", "count")),
    "differences": ("difference", ("request", "recorded", "beside", "engine", "detail")),
    "results": ("result", ("request", "beside", "engine")),
    "slices": ("slice", ("beside_p50_ms", "engine_p50_ms", "beside_p90_ms", "engine_p90_ms")),
}


def replay(args: argparse.Namespace, out: Output) -> int:
    """Send a recording; exit 0 when every request is answered as it was, or alike by both engines."""
    if args.beside:
        return _replay_beside(args, out)
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


def _replay_beside(args: argparse.Namespace, out: Output) -> int:
    import asyncio  # noqa: PLC0415 - as above

    from engine.errors import RecordingError  # noqa: PLC0415 - as above
    from engine.recordings.player import UnreachableError  # noqa: PLC0415 - as above

    if args.loop and not args.limit:
        raise UsageError("--loop with --beside takes --limit N, so many requests at each of the two")
    try:
        comparison = asyncio.run(_compare(args, out))
    except UnreachableError as exc:
        return out.error(str(exc), exit_code=UNREACHABLE)
    except RecordingError as exc:
        return out.error(str(exc), exit_code=FAILED)
    if comparison.is_empty:
        return out.error(f"{args.recording}: there is no request in it", exit_code=FAILED)
    out.sections(comparison.document(), _BESIDE_SECTIONS)
    return DONE if comparison.is_alike else FAILED


async def _compare(args: argparse.Namespace, out: Output) -> Comparison:
    from engine.recordings.gor import read  # noqa: PLC0415 - as above
    from engine.recordings.sides import Side, compare, slices_of  # noqa: PLC0415 - as above

    def on_slice(number: int, latencies: dict[str, float]) -> None:
        if out.as_json:
            out.json({"slice": number, **latencies})
        elif number:
            out.notice(f"slice {number} is over")

    options = _options(args)
    engine, beside = (
        Side(url, _rewriting(args, token), token=token, **options)
        for url, token in (_address(args, "--engine", args.engine), _address(args, "--beside", args.beside))
    )
    slices = slices_of(
        lambda: read(args.recording), args.slice or SLICE, limit=args.limit or 0, loops=args.loop
    )
    return await compare(engine, beside, slices, on_slice)


def _player(args: argparse.Namespace, report: Report) -> Player:
    from engine.recordings.player import Player  # noqa: PLC0415 - as above

    url, token = _address(args, "--engine", args.engine)
    return Player(url, _rewriting(args, token), report, **_options(args))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "speed": args.speed,
        "workers": args.workers or WORKERS,
        "timeout_s": args.timeout or TIMEOUT_S,
    }


def _address(args: argparse.Namespace, option: str, given: Any) -> tuple[str, str]:
    """Return the URL of an engine, and the token for it."""
    try:
        addresses, token = addresses_of(given), token_of(args.token)
    except ValueError as exc:
        raise UsageError(f"{option} or --token: {exc}") from exc
    if len(addresses) > 1:
        raise UsageError(f"{option}: a recording is sent to one engine")
    return addresses[0].url, token


def _rewriting(args: argparse.Namespace, token: str) -> Rewriting:
    from engine.recordings.rewriting import Rewriting  # noqa: PLC0415 - as above

    hosts: dict[str, str] = {}
    for pair in args.rewrite_host:
        before, sign, after = pair.partition("=")
        if not (sign and before and after):
            raise UsageError(
                f"--rewrite-host {pair!r}: takes RECORDED=SENT, such as www.example.com=test.example.com"
            )
        hosts[before] = after
    mark = f"r{os.urandom(3).hex()}"
    return Rewriting(mark, token=token, hosts=hosts, keeps_callbacks=args.keep_callbacks)
