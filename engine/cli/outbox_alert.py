"""The alert about an outbox that grows old, to those and in the forms that the engine's own alerts have.

What was told to whom is noted in the outbox, so that a timer does not repeat it each minute.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.cli.exits import DONE, FAILED, UsageError
from engine.client.bodies import tasks_of
from engine.config.alert_checks import check_alert
from engine.config.load import load
from engine.config.tables import AlertConfig
from engine.errors import ConfigError
from engine.notify import formats
from engine.notify.deliveries import deliveries
from engine.notify.formats import Alert
from engine.notify.post import Poster

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from engine.cli.screen import Output
    from engine.client.outbox import Outbox
    from engine.client.sending import Outcome

REPEAT_S: Final = 3600.0  #: an alert that goes on is sent again after this; to Alertmanager with every run
_NOTE: Final = ".alerted"


class _Note(msgspec.Struct):
    """What was told, in the outbox."""

    since: float = 0.0  #: when it was told first, UNIX time
    told: dict[str, float] = {}  #: receiver → when it was told last


def receivers_of(args: argparse.Namespace) -> AlertConfig:
    """Return who is told: as the options say, or the ``[alert]`` of a file.

    Raises:
        UsageError: they cannot be used; says why.
    """
    try:
        if args.alert_config is not None:
            return load(args.alert_config).alert
        config = AlertConfig(url=args.alert_url or "", secret=os.environ.get("PURGELINE_ALERT_SECRET", ""))
        check_alert(config)
    except ConfigError as exc:
        where = "--alert-config: " if args.alert_config is not None else ""
        raise UsageError(where + str(exc).replace("alert.url", "--alert-url", int(not where))) from exc
    return config


def alert(args: argparse.Namespace, out: Output, outbox: Outbox, outcome: Outcome) -> int:
    """Tell of the oldest task when it waits longer than ``--alert-after``, and when none does any more.

    Returns:
        1 when somebody should be told who could not be; else 0, as the run's own code tells of the outbox.
    """
    oldest = next(iter(outbox.entries()), None)
    age_s = 0.0 if oldest is None else max(0.0, time.time() - oldest.kept_at)
    path = outbox.folder / _NOTE
    note = _read(path)
    is_old = age_s > args.alert_after
    if is_old:
        text = f"post to engine failed for {age_s:.0f} s: {tasks_of(outcome.left)} in {outbox.folder}"
        out.error(text, exit_code=FAILED)
    elif note is None:
        return DONE
    else:
        text = f"no task waits longer than {args.alert_after:g} s in {outbox.folder}"
    note = note or _Note(time.time())
    one = Alert(
        f"outbox:{socket.gethostname()}:{outbox.folder}",
        "error" if is_old else "resolved",
        text,
        {"duration_s": round(age_s, 1), "waiting": outcome.left, "reason": str(outcome.error or "")},
        time.time(),
        socket.gethostname(),
        since=note.since,
        changed=_changed(note, is_old=is_old),
    )
    failed = asyncio.run(_deliver(receivers_of(args), one, note))
    if is_old or note.told:
        _write(path, note)
    else:
        path.unlink(missing_ok=True)
    for reason in failed:
        out.error(f"the alert was not delivered: {reason}", exit_code=FAILED)
    return FAILED if failed else DONE


def _changed(note: _Note, *, is_old: bool) -> str:
    lasted = formats.span(time.time() - note.since)
    if not is_old:
        return f"over after {lasted}"
    return f"goes on for {lasted}" if note.told else "new"


async def _deliver(config: AlertConfig, alert: Alert, note: _Note) -> list[str]:
    """Tell each receiver that has to hear of it, and note that; return why that failed for the others."""
    poster = Poster()
    poster.start()
    receivers = deliveries(config, poster)
    is_over = alert.level == "resolved"
    if is_over:  # who is not named any more is not told
        note.told = {name: at for name, at in note.told.items() if name in receivers}
    failed = []
    try:
        for name, deliver in receivers.items():
            repeat_s = 0.0 if name == "url" and config.format == "alertmanager" else REPEAT_S
            was_told = name in note.told
            if is_over and not was_told:
                continue
            if not is_over and was_told and 0 <= alert.time - note.told[name] < repeat_s:
                continue
            answer = await deliver(alert)
            if not answer.is_delivered:
                failed.append(answer.reason)
            elif is_over:
                del note.told[name]
            else:
                note.told[name] = alert.time
    finally:
        await poster.close()
    return failed


def _read(path: Path) -> _Note | None:
    """Return the note; None: nothing is told. One of a version before is empty, and has its time."""
    try:
        text, changed_at = path.read_bytes(), path.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(text, type=_Note)
    except msgspec.DecodeError:
        return _Note(changed_at, {"url": changed_at})


def _write(path: Path, note: _Note) -> None:
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(note))
