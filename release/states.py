"""Applies the states of a release to hosts, by ``salt-call --local`` on each or through a Salt master.

Without a master the release's own state tree and the operator's pillar go to each host in one request, so a
host needs Salt and nothing of ours. The host's name is its minion id and the inventory's facts are its grain
``purgeline``, so a pillar can tell hosts apart by either. A master has its own copies of both: only the call
goes out, to minions with the names of the inventory's hosts.

What comes back is compared with the hosts that were asked: ``salt`` itself ends with 0 when a minion is down.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from release import saltenv
from release.errors import ArtefactError, ReleaseError, SettingsError
from release.salthost import states_of
from release.settings import ROOT
from release.stateview import State, from_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from release.inventory import Host
    from release.remote import Outcome
    from release.settings import Settings

HOST_SCRIPT: Final = ROOT / "release/salthost.py"
TREE: Final = ("salt", "templates")  #: folders that are a state tree
TEXT_MAX_BYTES: Final = 4 * 1024 * 1024  #: of all files of a tree or a pillar
GATHER_S: Final = 5  #: after this a master asks who is still at work; who does not say so counts as down


class Fleet(Protocol):
    """What is used of `release.remote.Fleet`, made with `HOST_SCRIPT`."""

    def run(
        self, op: str, request: Callable[[str], Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[str, Outcome]:
        """Run an operation on every host; return an outcome for each."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be applied, to every host the same."""

    root: str  #: of the installation on the hosts
    states: str = ""  #: one SLS, such as ``engine.clean``; empty: the top file
    is_test: bool = False  #: only tell what would change
    release: str = ""  #: the version that is being brought; checks the new configuration once it is unpacked
    workers: int = 1
    channel: str = ""

    def pillar(self) -> dict[str, Any]:
        """Return what the pipeline's settings say, which goes over the operator's pillar."""
        return {"engine": {"root": self.root, "workers": self.workers, "release": self.release}}


class HostStates(msgspec.Struct, frozen=True, kw_only=True):
    """What the states did, or would do, on one host."""

    host: str
    ok: bool
    reason: str = ""  #: of the failure
    kind: str = (
        ""  #: of the failure: ``states``, ``render``, ``missing``, or one of `release.remote.NO_ANSWER`
    )
    log: list[str] = []
    states: list[State] = []

    @property
    def changed(self) -> list[State]:
        """The states that changed something, or would."""
        return [state for state in self.states if state.changes or state.result is None]

    @property
    def failed(self) -> list[State]:
        """The states that failed."""
        return [state for state in self.states if state.result is False]


def read_tree(project: Path = ROOT) -> dict[str, str]:
    """Return the state tree of a folder, as path and text.

    Raises:
        SettingsError: there is none, or a file cannot be read as text.
    """
    found: dict[str, str] = {}
    for part in TREE:
        found |= _read_folder(project / part, part)
    if "salt/top.sls" not in found:
        raise SettingsError(f"{project}: no state tree, which has salt/top.sls")
    return found


def read_artefact(path: Path) -> dict[str, str]:
    """Return the state tree of an artefact, as path and text. The artefact was verified by who got it.

    Raises:
        ArtefactError: it is none, or has no state tree.
    """
    found: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts[1:]  # without the top folder
                file = archive.extractfile(member) if member.isreg() and parts and parts[0] in TREE else None
                if file is not None:
                    found["/".join(parts)] = file.read(TEXT_MAX_BYTES).decode()
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError) as exc:
        raise ArtefactError(f"{path}: cannot be read: {exc}") from exc
    if "salt/top.sls" not in found:
        raise ArtefactError(f"{path}: has no state tree, which has salt/top.sls")
    return found


def read_pillar(path: Path) -> dict[str, str]:
    """Return a pillar as path and text: one file for every host, or a folder with a top.sls of its own.

    Raises:
        SettingsError: it is not there or cannot be read.
    """
    if path.is_dir():
        found = _read_folder(path, "pillar")
        if "pillar/top.sls" not in found:
            raise SettingsError(
                f"{path}: a folder of pillar files has a top.sls, which says what is for whom"
            )
        return found
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such pillar; copy salt/pillar.example, say there which caches you run, and name it "
            "with --pillar or as pillar in [tool.purgeline.release]"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {exc}") from exc
    return {"pillar/hosts.sls": text, "pillar/top.sls": json.dumps({"base": {"*": ["hosts"]}})}


def apply(
    fleet: Fleet, hosts: Sequence[Host], order: Order, *, files: Mapping[str, str], settings: Settings
) -> list[HostStates]:
    """Apply states on each host with ``salt-call --local``; return what each says, in order.

    Args:
        fleet: connections to *hosts*, made with `HOST_SCRIPT`.
        hosts: of the inventory.
        order: what to apply.
        files: state tree and pillar, see `read_tree` and `read_pillar`.
        settings: where Salt is on the hosts.
    """
    by_name = {host.name: host for host in hosts}

    def request(name: str) -> dict[str, Any]:
        host = by_name[name]
        return {
            "id": name,
            "files": files,
            "grains": {"purgeline": _facts(host, order)},
            "pillar": order.pillar(),
            "states": order.states,
            "test": order.is_test,
            "salt_call": _salt_call(host, settings),
        }

    return [_host_states(outcome) for outcome in fleet.run("apply", request).values()]


def apply_by_master(hosts: Sequence[Host], order: Order, *, settings: Settings) -> list[HostStates]:
    """Apply states through the Salt master on this machine; return what each host's minion says, in order.

    The master's ``file_roots`` need both folders of the tree, `TREE`; its pillar is its own.

    Raises:
        SettingsError: a host that no minion can be, or no ``salt`` program.
        ReleaseError: no answer from the master in ``step_timeout_s``.
    """
    if any(host.is_local for host in hosts):
        raise SettingsError("a Salt master reaches its minions; leave --master out for the host 'local'")
    names = [host.name for host in hosts]
    call = [*shlex.split(settings.salt_master), "--list", "--out=json", "--static", f"--timeout={GATHER_S}"]
    call += [",".join(names), "state.apply", *([order.states] if order.states else [])]
    call += [f"test={order.is_test}", f"pillar={json.dumps(order.pillar())}"]
    try:
        done = subprocess.run(
            call, capture_output=True, text=True, check=False, timeout=settings.step_timeout_s
        )
    except FileNotFoundError:
        raise SettingsError(
            f"{call[0]} is not there: run this on the Salt master, or say how it is called with salt_master "
            "in [tool.purgeline.release]"
        ) from None
    except subprocess.TimeoutExpired:
        limit_s = settings.step_timeout_s
        raise ReleaseError(f"the Salt master gave no answer within {limit_s:g} s (step_timeout_s)") from None
    answers = _documents(done.stdout)
    if not answers and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise ReleaseError(f"{call[0]} ended with {done.returncode}: {said}")
    return [_minion_states(name, answers.get(name)) for name in names]


def _minion_states(name: str, answer: object) -> HostStates:
    """Read what a minion answered; nothing, false or a sentence instead of states is a failure."""
    if isinstance(answer, dict) and answer and all("_|-" in key for key in answer):
        states = from_answer(states_of(answer))
        failed = [state.id for state in states if state.result is False]
        reason = f"{len(failed)} of {len(states)} states failed: {', '.join(failed)}" if failed else ""
        return HostStates(
            host=name, ok=not failed, reason=reason, kind="states" if failed else "", states=states
        )
    if answer is None or answer is False or answer == {}:
        reason = "its minion gave no answer: it is down, unknown to the master or cut off"
        return HostStates(host=name, ok=False, kind="missing", reason=reason)
    lines = [str(line) for line in answer] if isinstance(answer, list) else [str(answer)]
    missing = "did not return" in lines[0].lower()
    return HostStates(
        host=name,
        ok=False,
        kind="missing" if missing else "render",
        reason=lines[0] if missing else "the states cannot be rendered: " + "\n".join(lines),
    )


def _host_states(outcome: Outcome) -> HostStates:
    return HostStates(
        host=outcome.host,
        ok=outcome.ok,
        reason=outcome.reason,
        kind=outcome.kind,
        log=outcome.log,
        states=from_answer(outcome.answer.get("states", [])),
    )


def _facts(host: Host, order: Order) -> dict[str, Any]:
    return {
        "name": host.name,
        "address": host.address or host.name,
        "groups": host.groups,
        "release": order.release,
        "channel": order.channel,
    }


def _salt_call(host: Host, settings: Settings) -> str:
    """Return the program; on this machine that of `release.saltenv` when nothing else is asked for."""
    if host.is_local and settings.salt_call == "salt-call" and saltenv.is_current():
        return str(saltenv.folder() / "bin/salt-call")
    return settings.salt_call


def _documents(text: str) -> dict[str, Any]:
    """Join the JSON objects that ``salt`` printed, one or several, with other lines between them."""
    found: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            found |= document
        at = text.find("{", end)
    return found


def _read_folder(folder: Path, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    size = 0
    for path in _files(folder):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"{path}: cannot be read as text: {exc}") from exc
        size += len(text)
        if size > TEXT_MAX_BYTES:
            raise SettingsError(f"{folder}: more than {TEXT_MAX_BYTES} bytes; is it the right folder?")
        found[f"{name}/{path.relative_to(folder).as_posix()}"] = text
    return found


def _files(folder: Path) -> Iterable[Path]:
    """Return the files that Salt may read: no hidden ones, no leftovers of Python or editors."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_left = any(part.startswith(".") or part == "__pycache__" or part.endswith("~") for part in parts)
        if path.is_file() and not is_left:
            yield path
