"""``receipt``, ``keys`` and ``verify-receipt``: what shows somebody else what became of a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.connect import connect
from engine.cli.exits import DONE, FAILED, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.cli.screen import Output
    from engine.client.bodies import Document


def receipt(args: argparse.Namespace, out: Output) -> int:
    """Print the receipt of a settled task."""
    with connect(args, out) as client:
        signed = client.receipt(args.id)
    if out.as_json:
        out.json({"task_id": args.id, "receipt": signed})
    else:
        out.text(f"{signed}\n")
    return DONE


def keys(args: argparse.Namespace, out: Output) -> int:
    """Print the public keys of the engine, and of all that share its store: JSON in any case."""
    with connect(args, out) as client:
        out.json(client.keys())
    return DONE


def verify_receipt(args: argparse.Namespace, out: Output) -> int:
    """Check a receipt: offline where the keys are named; on request against the task as it is now."""
    from engine.proof.receipts import ReceiptError, differences, verify  # noqa: PLC0415 - only here

    signed = _receipt_in(_read(args.receipt))
    trusted = _keys_in(args.keys) if args.keys else None
    if trusted is None:
        with connect(args, out) as client:
            trusted = client.keys()["keys"]
    try:
        payload = verify(signed, trusted)
    except ReceiptError as exc:
        return out.error(f"{args.receipt}: {exc}", exit_code=FAILED)
    changed: list[str] = []
    if args.live:
        with connect(args, out) as client:
            changed = differences(payload, client.task(payload["task"]["task_id"]))
    _show(out, payload, changed)
    if changed:
        text = "; ".join(changed)
        return out.error(f"the task is not what it was when this was signed: {text}", exit_code=FAILED)
    return DONE


def _show(out: Output, payload: Document, changed: Sequence[str]) -> None:
    verdict = "changed" if changed else "good"
    if out.as_json:
        out.json({"receipt": verdict, "changed": list(changed), **payload})
        return
    out.mapping({"receipt": verdict, **{key: value for key, value in payload.items() if key != "task"}})
    out.results([payload["task"]], is_whole=True)


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{name!r} cannot be read: {exc}") from exc


def _receipt_in(text: str) -> str:
    """Return the receipt in a file that ``receipt`` wrote, with or without ``--json``."""
    try:
        document = json.loads(text)
    except ValueError:
        return text.strip()
    return str(document["receipt"]) if isinstance(document, dict) and "receipt" in document else text.strip()


def _keys_in(name: str) -> list[Document]:
    try:
        found = json.loads(_read(name))["keys"]
        if isinstance(found, list) and all(isinstance(key, dict) for key in found):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"--keys: {name!r} holds no JSON Web Key Set, as `purgeline keys` prints one")
