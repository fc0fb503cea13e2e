"""The alert about an outbox that grows old: the engine's own alerts have the same form (docs/operations.md).

What was told is noted in the outbox, so that a timer does not repeat it each minute.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.cli.exits import DONE, FAILED, UsageError
from engine.client.address import address_of

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output
    from engine.client.address import Address
    from engine.client.bodies import Document
    from engine.client.outbox import Outbox
    from engine.client.sending import Outcome

REPEAT_S = 3600.0  #: an alert that goes on is posted again after this
TIMEOUT_S = 10.0
_NOTE = ".alerted"  #: its time of change is that of the last alert


def alert(args: argparse.Namespace, out: Output, outbox: Outbox, outcome: Outcome) -> int:
    """Tell of the oldest task when it waits longer than ``--alert-after``, and when none does any more.

    Returns:
        1 when somebody should be told who could not be; else 0, as the run's own code tells of the outbox.
    """
    oldest = next(iter(outbox.entries()), None)
    age_s = 0.0 if oldest is None else max(0.0, time.time() - oldest.kept_at)
    note = outbox.folder / _NOTE
    told_at = note.stat().st_mtime if note.exists() else None
    is_old = age_s > args.alert_after
    if is_old:
        text = f"post to engine failed for {age_s:.0f} s: {outcome.left} tasks wait in {outbox.folder}"
        out.error(text, exit_code=FAILED)
        if told_at is not None and 0 <= time.time() - told_at < REPEAT_S:
            return DONE
    elif told_at is None:
        return DONE
    else:
        text = f"no task waits longer than {args.alert_after:g} s in {outbox.folder}"
    document: Document = {
        "key": f"outbox:{socket.gethostname()}:{outbox.folder}",
        "level": "error" if is_old else "resolved",
        "message": text,
        "facts": {
            "duration_s": round(age_s, 1),
            "waiting": outcome.left,
            "reason": str(outcome.error or ""),
        },
        "time": time.time(),
        "host": socket.gethostname(),
        "repeated": 0,
        "suppressed": 0,
    }
    if args.alert_url and (reason := post(args.alert_url, json.dumps(document).encode())):
        return out.error(f"the alert was not delivered: {reason}", exit_code=FAILED)
    if is_old:
        note.touch(mode=0o600)
    else:
        note.unlink(missing_ok=True)
    return DONE


def receiver_of(url: str) -> Address:
    """Return where an alert goes. UsageError: *url* is no address."""
    try:
        return address_of(url.partition("?")[0])
    except ValueError as exc:
        raise UsageError(f"--alert-url: {exc}") from exc


def post(url: str, body: bytes) -> str:
    """POST an alert, signed if ``PURGELINE_ALERT_SECRET`` is set; return why that failed, or nothing."""
    address, parts = receiver_of(url), urlsplit(url)
    kind = http.client.HTTPSConnection if address.is_tls else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=TIMEOUT_S)
    stamp = str(int(time.time()))
    headers = {"Content-Type": "application/json", "Purgeline-Timestamp": stamp}
    if secret := os.environ.get("PURGELINE_ALERT_SECRET"):
        mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        headers["Purgeline-Signature"] = f"v1={mac.hexdigest()}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (http.client.HTTPException, OSError, UnicodeError) as exc:
        return f"{type(exc).__name__}: {exc}".rstrip(": ")
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"answered {status}"  # noqa: PLR2004 - HTTP's successes
