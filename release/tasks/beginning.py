"""The task ``init``: what somebody who takes the project up begins with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    positional=[],
    help={
        "settings": "file to write; default: release.toml here",
        "key_file": "private key to sign with, made unless it is there; default: the settings'",
        "json": "print JSON",
    },
)
def init(c: Context, settings: str = "", key_file: str = "", json: bool = False) -> None:
    """Write release.toml, make a key to sign releases with, and say what comes next."""
    import msgspec

    from release.calling import call
    from release.errors import ReleaseError
    from release.repository import initial
    from release.settings import FILE, ROOT, Settings, is_checkout, overrides

    path = Path.cwd() / Path(settings or FILE).expanduser()
    try:
        given = key_file or overrides(os.environ).get("key_file") or Settings().key_file
        made = initial.write(path, Path.cwd() / Path(given).expanduser())
    except ReleaseError as exc:
        raise Exit(f"init: {exc}", code=2) from exc
    if json:
        print(msgspec.json.encode(made, enc_hook=str).decode())
        return
    what = "only you may read it; keep a copy in a safe place" if made.is_new_key else "it was there"
    source = "" if is_checkout(ROOT) else "name a checkout as source, "
    named = "" if path == Path.cwd() / FILE else f" --settings {settings}"
    print(
        f"Settings:    {made.path}\n"
        f"Private key: {made.key_file} ({what})\n"
        f"Public key:  {made.public_key} (trusted_keys has it)\n"
        "\n"
        f"Next: write your hosts into {made.path.name} ([[hosts]] at its end), {source}tag a commit, then\n"
        f"  {call('pack')}{named} && {call('repo --channel stable')}{named}\n"
        f"  {call('plan')}{named}"
    )
