"""The engine that a command talks to: from its options and the environment."""

from __future__ import annotations

from engine.cli import client, values
from engine.cli.exits import UsageError
from engine.client.address import token_of

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import argparse

    from engine.cli.screen import Output


def connect(args: argparse.Namespace, out: Output, *, busy_attempts: int = 4) -> client.EngineClient:
    """Return a client of the engine that *args* name.

    Raises:
        UsageError: the address or the token cannot be used.
    """
    try:
        return client.EngineClient(
            args.engine or "",
            token=token_of(args.token),
            timeout_s=args.timeout or values.TIMEOUT_S,
            busy_attempts=busy_attempts,
            notice=out.notice,
        )
    except ValueError as exc:
        raise UsageError(f"--engine or --token: {exc}") from exc
