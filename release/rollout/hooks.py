"""Hooks: shell commands of the settings that run on this machine before and after what is done to hosts.

``pre-NAME`` and ``post-NAME`` for the whole run (``deploy``, ``rollback``) and for each step of each batch
(``salt``, ``unpack``, ``reload``). The environment of a hook says what it is about: ``PURGELINE_HOOK``,
``PURGELINE_ACTION``, ``PURGELINE_DEPLOY_ID``, ``PURGELINE_VERSION``, ``PURGELINE_ROOT`` and
``PURGELINE_HOSTS`` (names, separated by commas). A hook that fails stops the run as a failed host does: a
smoke test after ``reload`` takes the release back. A hook's output goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from release.agent.redact import redact
from release.errors import ReleaseError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from release.hosts.journal import Run

_ABOUT: Final = ("deploy", "rollback", "salt", "unpack", "reload")
OUTPUT_WAIT_S: Final = 1.0  #: for the last of a hook's output
KNOWN: Final = tuple(f"{when}-{what}" for what in _ABOUT for when in ("pre", "post"))


class HookError(ReleaseError):
    """A hook failed."""


class Hooks:
    """The hooks of one run.

    Args:
        commands: by name.
        run: what they are about.
        timeout_s: for each.

    Raises:
        SettingsError: a name that nothing calls.
    """

    def __init__(self, commands: Mapping[str, str], run: Run, *, timeout_s: float) -> None:
        for name in commands:
            if name not in KNOWN:
                raise SettingsError(f"hooks: nothing calls {name!r}; known: {', '.join(KNOWN)}")
        self._commands = commands
        self._run = run
        self._timeout_s = timeout_s

    def call(self, name: str, hosts: Iterable[str], *, version: str = "") -> None:
        """Run the hook *name*, if there is one.

        Raises:
            HookError: it failed or took too long.
        """
        command = self._commands.get(name)
        if not command:
            return
        about = {
            "HOOK": name,
            "ACTION": self._run.action,
            "DEPLOY_ID": self._run.deploy_id,
            "VERSION": version or self._run.version,
            "ROOT": self._run.root,
            "HOSTS": ",".join(hosts),
        }
        environ = os.environ | {f"PURGELINE_{key}": value for key, value in about.items()}
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # not our own output: a hook must not die of that nobody reads it
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who end the hook in time
        )
        said = threading.Thread(target=_pass_on, args=(process,), name=f"hook {name}", daemon=True)
        said.start()
        try:
            code = process.wait(self._timeout_s)
            said.join(OUTPUT_WAIT_S)  # what it left behind may hold the pipe
        except subprocess.TimeoutExpired:
            raise HookError(f"the hook {name} took longer than {self._timeout_s:g} s: {command}") from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            raise HookError(f"the hook {name} ended with {code}: {command}")


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    """Copy a hook's output to standard error, whatever becomes of that."""
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(redact(line.decode(errors="replace")))
                sys.stderr.flush()
