"""The task ``docs``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from invoke.exceptions import Exit
from invoke.tasks import task

from release.settings import ROOT

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    positional=[],
    help={
        "serve": "show the site at a loopback port until Ctrl-C",
        "port": "of --serve",
    },
)
def docs(c: Context, serve: bool = False, port: int = 8000) -> None:
    """Make the site of docs/ in the folder site/; a link that leads nowhere is an error."""
    from release.errors import ReleaseError
    from release.lab.environment import DOCS

    site = ROOT / "site"
    try:
        sphinx = str(DOCS.ensure() / "sphinx-build")
    except ReleaseError as exc:
        raise Exit(f"docs: {exc}", code=1) from exc
    shutil.rmtree(site, ignore_errors=True)  # each page has the navigation, and some may have gone
    command = (sphinx, "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs"), str(site))
    if subprocess.run(command, check=False).returncode:
        raise Exit("docs: the site has the faults named above", code=1)
    print(site / "index.html")
    if serve:
        print(f"http://127.0.0.1:{port}/", flush=True)
        address = ("-b", "127.0.0.1", str(port))
        subprocess.run((sys.executable, "-m", "http.server", *address, "-d", str(site)), check=False)
