"""``purgeline doctor``: what on this machine would keep an engine from its work, and what mends it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from engine._version import __version__
from engine.cli.cells import DOCTOR_COLUMNS
from engine.cli.client import EngineClient
from engine.cli.exits import DONE, FAILED, UsageError
from engine.client.address import addresses_of
from engine.client.errors import ClientError

if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output
    from engine.config.tables import Config
    from engine.doctor.versions import Asked

_TIMEOUT_S: Final = 3.0
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked at, not listened on


def doctor(args: argparse.Namespace, out: Output) -> int:
    """Look at everything, print a line each, and say what mends what is not well."""
    from engine.config.load import load  # noqa: PLC0415 - only this command looks at a machine
    from engine.doctor.check import Verdict, worst  # noqa: PLC0415 - as above
    from engine.doctor.examination import Examination  # noqa: PLC0415 - as above

    config = load(args.config)
    checks = Examination(config, args.config, _asked(args, config)).checks()
    verdict = worst(check.verdict for check in checks)
    document = {
        "host": socket.gethostname(),
        "version": __version__,
        "verdict": str(verdict),
        "checks": [{**check._asdict(), "verdict": str(check.verdict)} for check in checks],
    }
    out.listing(document, "checks", DOCTOR_COLUMNS)
    return FAILED if verdict is Verdict.FAIL else DONE


def _asked(args: argparse.Namespace, config: Config) -> list[Asked]:
    """Ask the engine of this machine for its version, and those that the user names."""
    host, port = config.listen_address()
    host = _HERE.get(host, host)
    here = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        named = [address.url for address in addresses_of(args.engine)] if args.engine else []
    except ValueError as exc:
        raise UsageError(f"--engine: {exc}") from exc
    timeout_s = args.timeout or _TIMEOUT_S
    return [_ask(here, timeout_s), *(_ask(url, timeout_s, is_named=True) for url in named if url != here)]


def _ask(url: str, timeout_s: float, *, is_named: bool = False) -> Asked:
    from engine.doctor.versions import Asked  # noqa: PLC0415 - as above

    with EngineClient(url, timeout_s=timeout_s, busy_attempts=1) as client:
        try:
            version = str(client.version().get("version") or "")
        except ClientError as exc:
            return Asked(url, "", str(exc), is_named)
    return Asked(url, version, "" if version else "its answer names no version", is_named)
