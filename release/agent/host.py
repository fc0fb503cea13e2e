"""One operation on a host: ``python3 -I host.py OP``, a JSON object on standard input, JSON lines back.

The lines are any number of ``{"event": …}`` and then exactly one answer, ``{"ok": true, …}`` or
``{"ok": false, "error": SENTENCE, "kind": WORD}``; the exit code is 0 or 1 accordingly, 2 for input that
cannot be used. The file is copied to hosts and runs alone there, so it imports the standard library only. It
needs Python 3.11, and older ones down to 3.8 can read it, so that they say so.

Operations::

    facts      what decides whether this host can take a release
    unpack     an artefact becomes ``releases/V``: checked, installed, tried; ``.verified`` is written last
    reload     the engine runs ``releases/V``, then ``current`` points there
    stop status history append lock heartbeat unlock prune verify previous

What holds whenever it is killed, whatever fails:

- A release counts only with its ``.verified``. A folder without one is removed by the next ``unpack``.
- ``current`` and ``previous`` are relative links, replaced by rename, by ``reload`` only, after the engine
  has taken the release over. If they cannot be replaced, the engine is taken back.
- Files that others read (links, serial, lock) change by rename; ``history.jsonl`` grows by whole lines, and
  a torn last line is passed over.
- Operations that change releases follow one another: they hold ``.op.lock``, and what installs for them does
  too, so a killed one is over when its last process is.
- The way back is the history's: a version that was left by a rollback is not gone back to.

From top to bottom: Answering, Files, Host, History, Trust, Unpacking, Supervisor, Reloading, Locking,
Pruning, Operations, main.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import fcntl
import gzip
import hashlib
import http.client
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Iterator  # noqa: UP035 - parsed by older Pythons too, to be told so

PYTHON_MIN = (3, 11)
CHANGING_WAIT_S = 15.0
START_WAIT_S = 20.0
BAKE_S = 5.0
STOP_WAIT_S = 60.0
REPLACE_WAIT_S = 10.0
GONE_WAIT_S = 2.0  # a supervisor that was killed may take connections for so long
PIP_TIMEOUT_S = 240.0
FILES_MAX = 20_000
UNPACKED_BYTES_MAX = 2 * 1024**3
INODES_MIN = 4000
TAIL_LINES = 20
UNIT = "purgeline.service"
VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,127}")
DER_ED25519 = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what comes before the 32 bytes of a key
OP_LOCK, LOCK_LOCK = ".op.lock", ".lock.lock"
WAYS_BACK = {"rollback", "auto-rollback"}
DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


# --- Answering ---------------------------------------------------------------------------------


class Refused(Exception):  # noqa: N818 - the operation's word for it
    """The operation is not done. ``kind`` is for programs, the text for people."""

    def __init__(self, kind: str, text: str, log: list[str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.log = log or []


def tell(event: str, **facts: object) -> None:
    """Write one line of progress."""
    _write({"event": event, **facts})


def _write(line: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone; the work goes on to its end
        os.write(1, json.dumps(line).encode() + b"\n")


def explain(exc: OSError) -> Refused:
    """Return what an error of the system means to an operator."""
    where = f" ({exc.filename})" if exc.filename else ""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refused("disk", f"the disk is full{where}; make room and run it again")
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Refused("permission", f"{exc.strerror}{where}; run it as the owner of the folder")
    return Refused("system", f"{exc.strerror or exc}{where}")


# --- Files -------------------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Make renames in *folder* last over a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Write out the disk of *folder*: thousands of files in one call, and no other disk has to wait."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def remove_release(folder: Path) -> None:
    """Remove a release; from the first step on it does not count."""
    (folder / ".verified").unlink(missing_ok=True)
    shutil.rmtree(folder)
    sync_folder(folder.parent)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file by rename."""
    draft = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    sync_folder(path.parent)


def link(path: Path, target: str) -> None:
    """Point a link at *target*, or remove it for an empty one."""
    if not target:
        path.unlink(missing_ok=True)
    else:
        draft = path.with_name(f".{path.name}.new-{os.getpid()}")
        draft.unlink(missing_ok=True)
        try:
            draft.symlink_to(target)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """Return what a file holds, None when there is none or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def holding(path: Path, wait_s: float, what: str) -> Iterator[None]:
    """Hold a lock file, so that two operations of a kind do not meet.

    What `run` starts holds it too: if we are killed, the next one waits until that has ended as well.
    """
    with path.open("a") as file:
        os.set_inheritable(file.fileno(), True)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(
                        "busy", f"{what} is under way on this host; try again when it is over"
                    ) from None
                time.sleep(0.05)
        yield


# --- Host --------------------------------------------------------------------------------------


class Host:
    """The folders of one installation."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.shared = root / "shared"
        self.config = self.shared / "engine.toml"
        self.supervisor = self.shared / "supervisor.py"
        self.log = self.shared / "supervisor.log"
        self.lock = root / "lock"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.root, self.releases, self.shared, self.root / "cache", self.shared / "run"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)

    def release(self, version: object) -> Path:
        """Return the folder of a version."""
        if not isinstance(version, str) or not VERSION.fullmatch(version) or ".." in version:
            raise Refused("input", f"version: {version!r} is no version")
        return self.releases / version

    def verified(self, version: str) -> dict[str, Any] | None:
        """Return what ``.verified`` says, None for a release that does not count."""
        found = read_json(self.release(version) / ".verified")
        return found if isinstance(found, dict) and found.get("version") == version else None

    def there(self) -> list[str]:
        """Return the versions that have a folder, whether whole or not."""
        if not self.releases.is_dir():
            return []
        return sorted(
            path.name for path in self.releases.iterdir() if VERSION.fullmatch(path.name) and path.is_dir()
        )

    def good(self) -> list[str]:
        """Return the verified versions."""
        return [name for name in self.there() if self.verified(name)]

    def linked(self, name: str) -> str:
        """Return the version that ``current`` or ``previous`` names, or nothing."""
        return self.links()[name].rpartition("/")[2]

    def links(self) -> dict[str, str]:
        """Return where ``current`` and ``previous`` point; nothing for one that is not there."""
        found = {}
        for name in ("current", "previous"):
            try:
                found[name] = str((self.root / name).readlink())
            except OSError:
                found[name] = ""
        return found

    def in_use(self) -> dict[str, str]:
        """Return versions that must stay, and why."""
        found = dict.fromkeys(self._used_by_processes(), "a process uses it")
        status = running(self)
        for worker in status.get("workers", []):
            found[str(worker.get("version"))] = "a worker runs it"
        if status.get("release_dir"):
            found[Path(status["release_dir"]).name] = "it runs"
        for name in ("previous", "current"):
            if self.linked(name):
                found[self.linked(name)] = f"it is {name}"
        return found

    def _used_by_processes(self) -> set[str]:
        """Return versions that a process was started from or works in; orphans of a killed supervisor, too.

        The program itself tells nothing: a venv's ``python`` is a link out of it.
        """
        start = os.fsencode(self.releases.resolve()) + b"/"
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                paths = [(process / "cmdline").read_bytes().split(b"\0", 1)[0]]
                with contextlib.suppress(OSError):
                    paths.append(os.fsencode((process / "cwd").readlink()))
                found |= {path[len(start) :].split(b"/")[0] for path in paths if path.startswith(start)}
        return {os.fsdecode(name) for name in found}

    def is_supervised(self) -> bool:
        """Tell whether a supervisor listens; an error if we may not ask."""
        try:
            with connect(self, 5):
                return True
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):  # it listens, and is slow to take up
            return True


# --- History -----------------------------------------------------------------------------------


def append(host: Host, /, **entry: object) -> None:
    """Add a line to the history, all of it or nothing; a torn last line of a crash is ended first."""
    line = json.dumps({"at": time.time(), **entry}).encode() + b"\n"
    descriptor = os.open(host.root / "history.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def note(host: Host, /, **entry: object) -> None:
    """Add what was done to the history. If that fails, what was done is done: it is told, not undone."""
    try:
        append(host, **entry)
    except OSError as exc:
        tell("warning", message=f"the history lacks this {entry.get('action')}: {explain(exc)}")


def history(host: Host) -> list[dict[str, Any]]:
    """Return the entries, oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (host.root / "history.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
    return found


def served(host: Host) -> list[str]:
    """Return the versions that this host came to serve and kept, the oldest first, each once.

    A way back takes out what it left and what came after its target: going back again leads further back.
    """
    found: list[str] = []
    for entry in history(host):
        version, action = str(entry.get("version")), entry.get("action")
        if entry.get("ok") is not True or action not in {"reload", *WAYS_BACK}:
            continue
        if action in WAYS_BACK:
            if version in found:
                del found[found.index(version) + 1 :]
            found = [one for one in found if one != entry.get("from")]
        found = [*(one for one in found if one != version), version]
    return found


# --- Trust -------------------------------------------------------------------------------------


def unseal(envelope: bytes, trusted: list[str]) -> dict[str, Any]:
    """Return the index in *envelope*, once a trusted key's signature fits it."""
    try:
        found = json.loads(envelope)
        payload = base64.b64decode(found["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in found["signatures"]]
        keys = [base64.b64decode(text, validate=True) for text in trusted]
        names = [str(one["keyid"]) for one in found["signatures"]]
    except (ValueError, TypeError, KeyError) as exc:
        raise Refused("index", f"the index is damaged: {exc!r}") from exc
    if any(len(key) != 32 for key in keys) or not keys:  # noqa: PLR2004 - an ed25519 key
        raise Refused("index", "trusted_keys: takes at least one ed25519 public key, base64 of 32 bytes")
    if not any(signed(payload, signature, key) for signature in signatures for key in keys):
        known = [hashlib.sha256(key).hexdigest() for key in keys]
        if any(full.startswith(name) for name in names if name for full in known):
            raise Refused("index", "the index was changed after it was signed; do not use it")
        raise Refused("index", f"the index is signed by an unknown key ({', '.join(names) or 'nobody'})")
    try:
        index = json.loads(payload)
        index["serial"] + index["expires_at"], index["artefacts"].items()
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise Refused("index", f"the index cannot be read: {exc!r}") from exc
    return index  # type: ignore[no-any-return]


def signed(payload: bytes, signature: bytes, key: bytes) -> bool:
    """Tell whether *signature* is the *key*'s, by ``cryptography`` or the ``openssl`` program."""
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - many hosts do not have it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        return signed_by_openssl(payload, signature, key)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def signed_by_openssl(payload: bytes, signature: bytes, key: bytes) -> bool:
    """See `signed`."""
    program = shutil.which("openssl")
    if program is None:
        raise Refused("missing", "openssl is not on this host, and it checks signatures: apt install openssl")
    with tempfile.TemporaryDirectory(prefix="purgeline-") as name:
        folder = Path(name)
        text = base64.b64encode(DER_ED25519 + key).decode()
        (folder / "key").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        (folder / "payload").write_bytes(payload)
        (folder / "signature").write_bytes(signature)
        command = [program, "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "payload"]
        done = subprocess.run(
            [*command, "-sigfile", "signature"], cwd=folder, capture_output=True, check=False, timeout=30
        )
    return done.returncode == 0


def check_index(host: Host, request: dict[str, Any]) -> None:
    """See that the request is what a trusted, current index says."""
    try:
        envelope = base64.b64decode(request["envelope"], validate=True)
    except ValueError as exc:
        raise Refused("input", f"envelope: takes base64, {exc}") from exc
    index = unseal(envelope, request["trusted_keys"])
    if index["expires_at"] < time.time():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(index["expires_at"]))
        raise Refused(
            "index", f"the index expired at {when} (by this host's clock); renew it: inv repo --refresh"
        )
    seen = read_json(host.shared / "index-serial")
    seen = seen if isinstance(seen, int) else 0
    if index["serial"] < seen:
        raise Refused(
            "index",
            f"the index is an old one: its serial is {index['serial']}, this host has seen {seen}",
        )
    asked = {key: request[key] for key in ("version", "sha256", "size")}
    tags = {"python": python_tag(), "platform": platform_tag()}
    builds = [one for one in index["artefacts"].values() if one.get("version") == request["version"]]
    if not builds:
        raise Refused("index", f"the index has no version {request['version']}")
    found = next((one for one in builds if all(one.get(key) == tags[key] for key in tags)), None)
    if found is None:
        there = ", ".join(f"{one.get('python')}-{one.get('platform')}" for one in builds)
        raise Refused(
            "python",
            f"{request['version']} is built for {there}; this host is {python_tag()}-{platform_tag()}",
        )
    if found.get("yanked"):
        raise Refused("index", f"version {request['version']} was yanked: {found['yanked']}")
    for key, value in asked.items():
        if found.get(key) != value:
            raise Refused("index", f"the artefact's {key} is not the index's: {value}, not {found.get(key)}")
    if index["serial"] > seen:
        write_whole(host.shared / "index-serial", str(index["serial"]).encode())


def python_tag() -> str:
    """Return the tag of this interpreter, such as ``cp311``."""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


def platform_tag() -> str:
    """Return the tag of this machine, such as ``linux_x86_64``."""
    return f"linux_{platform.machine()}"


# --- Unpacking ---------------------------------------------------------------------------------


def unpack(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Make ``releases/V`` of an artefact."""
    began = time.monotonic()
    version = request["version"]
    folder = host.release(version)
    host.make()
    source = Path(request["file"])
    there = host.verified(version)
    if there is not None and (folder / "venv/bin/python").exists():
        if there.get("sha256") != request["sha256"]:
            raise Refused("conflict", f"{version} is here with other content; a version is never built twice")
        drop(host, source)
        return {"version": version, "unchanged": True}
    check_index(host, request)
    pip_for(folder / "venv/bin/python")
    if folder.exists():
        used = host.in_use().get(version)
        if used:
            raise Refused("in-use", f"{folder} is not whole, but cannot be made again: {used}")
        what = f"a half-made {version}" if there is None else f"{version}, whose Python is gone,"
        tell("clean", path=str(folder), message=f"{what} is removed")
        remove_release(folder)
    check_space(host, request)
    check_artefact(source, request)
    try:
        install(folder, source, request)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    drop(host, source)
    took_s = time.monotonic() - began
    note(host, action="unpack", version=version, ok=True, duration_s=took_s, **by(request))
    return {"version": version, "unchanged": False, "duration_s": took_s}


def drop(host: Host, source: Path) -> None:
    """Remove an artefact that was brought here for this and is not needed any more."""
    if source.parent == host.root / "cache":
        source.unlink(missing_ok=True)


def check_space(host: Host, request: dict[str, Any]) -> None:
    """Refuse to begin on a disk that will be full before the end."""
    disk = os.statvfs(host.releases)
    free = disk.f_bavail * disk.f_frsize
    need = max(int(request.get("min_free_bytes", 0)), 4 * request["size"])
    if free < need:
        raise Refused(
            "disk",
            f"{host.root} has {free / 2**20:.1f} MiB free, {need / 2**20:.1f} MiB are needed; make room "
            "(inv prune) or set min_free_bytes",
        )
    if disk.f_files and disk.f_favail < INODES_MIN:
        raise Refused(
            "disk",
            f"{host.root} has room for {disk.f_favail} more files, {INODES_MIN} are needed; make room "
            "(inv prune)",
        )


def check_artefact(source: Path, request: dict[str, Any]) -> None:
    """See that the file is the one that the index names."""
    try:
        size = source.stat().st_size
    except FileNotFoundError:
        raise Refused("artefact", f"{source} is not on this host") from None
    if size != request["size"]:
        raise Refused(
            "artefact", f"{source.name} has {size} bytes, not {request['size']}: it did not arrive whole"
        )
    found = sha256_of(source)
    if found != request["sha256"]:
        raise Refused(
            "artefact", f"{source.name} has sha256 {found}, not {request['sha256']}: it was changed"
        )


def install(folder: Path, source: Path, request: dict[str, Any]) -> None:
    """Extract, check, install and try a release; the marker comes last."""
    version = request["version"]
    tell("extract", version=version)
    extract(source, folder, f"purgeline-{version}")
    check_manifest(folder, version)
    tell("install", version=version)
    python = folder / "venv/bin/python"
    run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder / "venv")], "make the venv", folder)
    options = ["--no-index", "--find-links", "wheels", "--require-hashes", "--no-compile", "--no-cache-dir"]
    options += [
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
        "-q",
        "-r",
        "requirements.txt",
    ]
    run([*pip_for(python), "install", *options], "install the wheels", folder)
    shutil.rmtree(folder / "wheels")
    tell("try", version=version)
    check_version(python, version, folder)
    files = {name: sha256_of(path) for name, path in files_of(folder).items()}
    sync_files(folder)
    marker = {"version": version, "sha256": request["sha256"], "at": time.time(), "files": files}
    write_whole(folder / ".verified", json.dumps(marker).encode())
    sync_folder(folder.parent)


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a release that stay as they are."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }


def extract(source: Path, folder: Path, top: str) -> None:
    """Extract plain files and folders only, each inside *top*, each once, bounded."""
    seen: set[str] = set()
    left = UNPACKED_BYTES_MAX
    folder.mkdir(mode=0o755)
    try:
        with tarfile.open(source, "r:gz", errorlevel=2) as archive:
            for entry in archive:
                name = entry.name
                parts = name.split("/")
                is_plain = entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}
                if not is_plain or entry.issparse():
                    raise Refused(
                        "artefact", f"the artefact is unsafe: {name!r} is a link, a device or the like"
                    )
                if parts[0] != top or not all(parts) or {".", ".."} & set(parts) or not name.isprintable():
                    raise Refused(
                        "artefact", f"the artefact is unsafe: {name!r} is not a plain path in {top}/"
                    )
                if name in seen or len(seen) >= FILES_MAX:
                    raise Refused(
                        "artefact", f"the artefact is unsafe: {name!r} is there twice, or one too many"
                    )
                seen.add(name)
                path = folder.joinpath(*parts[1:])
                if entry.isdir():
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                left -= entry.size
                if left < 0:
                    raise Refused("artefact", "the artefact is unsafe: it unpacks to more than 2 GiB")
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                content = archive.extractfile(entry)
                assert content is not None
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                path.chmod(0o755 if entry.mode & 0o111 else 0o644)
    except (*DAMAGED, FileExistsError, NotADirectoryError) as exc:
        raise Refused("artefact", f"the artefact is damaged: {exc}") from exc


def check_manifest(folder: Path, version: str) -> None:
    """See that the files are those of the manifest, and that it is of this version and host."""
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Refused("artefact", "the artefact has no manifest")
    wanted = {"version": version, "python": python_tag(), "platform": platform_tag()}
    for key, value in wanted.items():
        if manifest.get(key) != value:
            kind = "artefact" if key == "version" else "python"
            raise Refused(kind, f"the artefact's manifest says {key} {manifest.get(key)}, here it is {value}")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {
        "manifest.json"
    }
    for name in sorted(there ^ set(manifest["files"])):
        raise Refused("artefact", f"{name} is {'not in the manifest' if name in there else 'missing'}")
    for name, entry in manifest["files"].items():
        if sha256_of(folder / name) != entry["sha256"]:
            raise Refused("artefact", f"{name} differs from the manifest")


def pip_for(python: Path) -> list[str]:
    """Return a command that is pip for *python*: this interpreter's, or a wheel that came with it."""
    if find_spec("pip") is not None:
        return [sys.executable, "-I", "-m", "pip", "--python", str(python)]
    places = [Path("/usr/share/python-wheels")]
    bundled = find_spec("ensurepip")
    if bundled is not None and bundled.origin:
        places.insert(0, Path(bundled.origin).parent / "_bundled")
    for place in places:
        for wheel in sorted(place.glob("pip-*.whl"), reverse=True):
            return [str(python), "-I", str(wheel / "pip")]
    raise Refused("missing", "this host has neither pip nor ensurepip: apt install python3-venv")


def check_version(python: Path, version: str, folder: Path) -> None:
    """Import what a worker imports, which also writes its bytecode, and ask the version."""
    code = "import engine.process.worker, engine.cli.main, json; from engine import _version as v; "
    code += "print(json.dumps(v.__version__))"
    said = run([str(python), "-I", "-c", code], "import the engine", folder).strip().splitlines()
    if not said or said[-1] != json.dumps(version):
        raise Refused(
            "version", f"the release says that it is {said[-1] if said else 'nothing'}, not {version}"
        )


def run(command: list[str], doing: str, folder: Path) -> str:
    """Run one step; its last lines are in the error."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            close_fds=False,  # it holds the lock of the operation with us, see `holding`
            timeout=PIP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise Refused("timeout", f"could not {doing} in {PIP_TIMEOUT_S:g} s") from None
    except FileNotFoundError:
        raise Refused("release", f"could not {doing}: {command[0]} is gone") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if any("No space left" in line or "Disk quota" in line for line in lines):
            raise Refused("disk", f"the disk is full: could not {doing}", lines[-TAIL_LINES:])
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise Refused("release", f"could not {doing}: {last}", lines[-TAIL_LINES:])
    return done.stdout


# --- Supervisor --------------------------------------------------------------------------------


@contextlib.contextmanager
def connect(host: Host, timeout_s: float) -> Iterator[socket.socket]:
    """Connect to the control socket, whose path may be longer than an address takes."""
    folder = os.open(host.shared / "run", os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(f"/proc/self/fd/{folder}/control.sock")
            yield client
    finally:
        os.close(folder)


def ask(
    host: Host,
    request: dict[str, Any],
    *,
    timeout_s: float,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Send one request to the supervisor and return its answer."""
    try:
        with connect(host, timeout_s) as client:
            client.sendall(json.dumps(request).encode() + b"\n")
            for line in client.makefile("rb"):
                answer = json.loads(line)
                if "ok" in answer:
                    return answer  # type: ignore[no-any-return]
                if on_event is not None:
                    on_event(answer)
    except (OSError, ValueError) as exc:
        raise Refused("supervisor", f"the supervisor does not answer: {exc}") from exc
    raise Refused("supervisor", "the supervisor ended the connection without an answer")


def running(host: Host, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return the supervisor's status; empty if none runs.

    The socket of one that was just killed may take a connection that nobody answers: that is none.
    """
    until = time.monotonic() + GONE_WAIT_S
    while host.is_supervised():
        try:
            return ask(host, {"cmd": "status"}, timeout_s=timeout_s)
        except Refused:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
    return {}


def uses_systemd(host: Host, service: str | None) -> bool:
    """Tell whether systemd runs the engine here."""
    service = service or "auto"
    unit = Path("/etc/systemd/system") / UNIT
    if service == "systemd":
        return True
    is_there = Path("/run/systemd/system").is_dir() and unit.is_file()
    return service == "auto" and is_there and str(host.root) in unit.read_text(errors="replace")


def start(host: Host, request: dict[str, Any]) -> None:
    """Start a supervisor with a release; return when it serves. systemd's starts what ``current`` names."""
    tell("start", version=request["version"])
    process = None
    if uses_systemd(host, request.get("service")):
        why = systemctl("start")
        if why:
            log = journal_tail()
            systemctl("stop")  # or it is tried again and again
            raise Refused("start", f"systemctl start {UNIT}: {why}", log)
    else:
        process = start_directly(host, request)
    until = time.monotonic() + seconds(request, "timeout_s", START_WAIT_S)
    while True:
        with contextlib.suppress(Refused):
            status = ask(host, {"cmd": "status"}, timeout_s=5)
            if status.get("state") == "serving" and status.get("version") == request["version"]:
                return
        if process is not None and process.poll() is not None:
            raise Refused(
                "start", f"the engine does not start (exit code {process.returncode})", log_tail(host)
            )
        if time.monotonic() > until:
            log = journal_tail() if process is None else log_tail(host)
            if process is None:
                systemctl("stop")
            else:
                end(process)
            raise Refused("start", "the engine did not serve in time", log)
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor that we started."""
    process.terminate()
    try:
        process.wait(REPLACE_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def systemctl(verb: str) -> str:
    """Have systemd start or stop the engine; return why it does not."""
    command = ["systemctl", verb, UNIT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        return f"not done in {STOP_WAIT_S:g} s"
    except FileNotFoundError:
        return "there is no systemctl here"
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def journal_tail() -> list[str]:
    """Return the last lines of systemd's supervisor."""
    command = ["journalctl", "-u", UNIT, "-n", str(TAIL_LINES), "-o", "cat"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def seconds(request: dict[str, Any], key: str, default: float) -> float:
    """Return a span that may be left out."""
    value = request.get(key)
    return default if value is None else float(value)


def start_directly(host: Host, request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a supervisor that outlives us."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    command = [python, "-I", str(host.supervisor), "--root", str(host.root)]
    command += ["--release", str(host.release(request["version"]))]
    command += ["--workers", str(int(request.get("workers") or 1))]
    if request.get("listen"):
        command += ["--listen", request["listen"]]
    with host.log.open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=host.shared,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PURGELINE_", "LISTEN_", "NOTIFY_", "WATCHDOG_"))
            },
        )


def log_tail(host: Host) -> list[str]:
    """Return the last lines of a supervisor that we started."""
    with contextlib.suppress(OSError):
        return host.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return []


def install_supervisor(host: Host, release: Path, *, is_way_back: bool) -> None:
    """Have the supervisor of a release in place, and running when one runs.

    On the way back the newer one may stay: an older file need not understand its state, and that must not
    keep anybody from the older engine.
    """
    wanted = (release / "supervisor.py").read_bytes()
    before = host.supervisor.read_bytes() if host.supervisor.exists() else None
    if before != wanted:
        write_whole(host.supervisor, wanted)
    digest = hashlib.sha256(wanted).hexdigest()
    if running(host).get("supervisor_sha256", digest) == digest:
        return
    tell("replace", message="the supervisor replaces itself")
    why = replace_supervisor(host, digest)
    if not why:
        return
    if before is not None:
        write_whole(host.supervisor, before)
    if not is_way_back or not host.is_supervised():
        raise Refused("supervisor", f"the new supervisor cannot take over: {why}")
    tell("kept", message=f"the supervisor stays, the older one cannot take over: {why}")


def replace_supervisor(host: Host, digest: str) -> str:
    """Have the supervisor execute the file that is in place now; return why it does not."""
    try:
        answer = ask(host, {"cmd": "replace", "supervisor": str(host.supervisor)}, timeout_s=REPLACE_WAIT_S)
    except Refused as exc:
        return str(exc)
    until = time.monotonic() + REPLACE_WAIT_S
    while answer.get("ok") and time.monotonic() < until:
        with contextlib.suppress(Refused):
            if ask(host, {"cmd": "status"}, timeout_s=5).get("supervisor_sha256") == digest:
                return ""
        time.sleep(0.05)
    return str(answer.get("error", "out of time"))


# --- Reloading ---------------------------------------------------------------------------------


def reload(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Have the engine run a release."""
    began = time.monotonic()
    version = request["version"]
    folder = host.release(version)
    before = host.linked("current")
    action = str(request.get("action") or "reload")
    entry = {"action": action, "version": version, "from": before, **by(request)}
    try:
        need_verified(host, version)
        check_config(host, folder, request)
        answer = switch(host, folder, request)
    except (Refused, OSError) as exc:
        refused = explain(exc) if isinstance(exc, OSError) else exc
        with contextlib.suppress(OSError):
            append(host, **entry, ok=False, error=str(refused), duration_s=time.monotonic() - began)
        bring_back(host, request, before)
        raise refused from exc
    took_s = time.monotonic() - began
    if not answer["unchanged"] or served(host)[-1:] != [version]:  # the call before this may have been killed
        note(host, **entry, ok=True, duration_s=took_s)
    return {"from": before, "to": version, "version": version, "duration_s": took_s, **answer}


def bring_back(host: Host, request: dict[str, Any], before: str) -> None:
    """A failed reload must not leave a host that served without an engine: start what it had."""
    if not before or host.linked("current") != before:
        return
    with contextlib.suppress(Refused):
        if not running(host):
            restart(host, request, before)


def restart(host: Host, request: dict[str, Any], before: str) -> None:
    """Start again what ran, and tell."""
    tell("restart", version=before, message=f"nothing runs any more; {before} is started again")
    try:
        start(host, {**request, "version": before, "timeout_s": STOP_WAIT_S})
    except (Refused, OSError) as exc:
        tell("down", version=before, message=f"{before} does not start again: {exc}")


def need_verified(host: Host, version: str) -> dict[str, Any]:
    """Return what ``.verified`` says of a release that has to be here."""
    found = host.verified(version)
    if found is None:
        known = ", ".join(host.good()) or "none"
        raise Refused("missing", f"{version} is not unpacked on this host, {known} is")
    return found


def check_config(host: Host, folder: Path, request: dict[str, Any]) -> None:
    """See that the release can read the configuration; write a first one where an address is given."""
    if not host.config.exists():
        if not request.get("listen"):
            raise Refused(
                "config", f"{host.config} is missing; inv salt writes it, or give --listen for a first one"
            )
        text = f'# Written by the first deploy; yours to change.\n[engine]\nlisten = "{request["listen"]}"\n'
        write_whole(host.config, text.encode(), 0o640)
    try:
        run(
            [str(folder / "venv/bin/python"), "-m", "engine", "check-config", str(host.config)],
            "check",
            host.shared,
        )
    except Refused as exc:
        said = (exc.log or [str(exc)])[-1]
        raise Refused("config", f"{folder.name} cannot use the configuration: {said}", exc.log) from None


def switch(host: Host, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Let the engine take the release over, then the links."""
    version = folder.name
    links = host.links()
    is_way_back = request.get("action") in WAYS_BACK
    timeout_s, bake_s = seconds(request, "timeout_s", START_WAIT_S), seconds(request, "bake_s", BAKE_S)
    status = settled(host, timeout_s + bake_s)
    install_supervisor(host, folder, is_way_back=is_way_back)
    if not status:
        return start_first(host, request, links)
    is_there = status.get("version") == version and Path(status.get("release_dir") or "") == folder.resolve()
    if is_there and not request.get("force"):
        point(host, version, links)
        return {"unchanged": links["current"] == f"releases/{version}"}
    order: dict[str, Any] = {"cmd": "reload", "release_dir": str(folder), "version": version}
    order.update(timeout_s=timeout_s, bake_s=bake_s)
    limit_s = timeout_s + bake_s + STOP_WAIT_S
    answer = ask(host, order, timeout_s=limit_s, on_event=_write)
    if not answer["ok"]:
        raise Refused(f"reload-{answer.get('stage', '')}", answer["error"], answer.get("log"))
    try:
        point(host, version, links)
    except OSError as exc:
        before = {key: status[key] for key in ("release_dir", "version")}
        back = ask(host, {**order, **before, "bake_s": 0}, timeout_s=limit_s)
        what = "was brought back" if back["ok"] else f"cannot be brought back ({back['error']})"
        raise Refused(
            "links", f"current cannot be replaced, so {status['version']} {what}: {explain(exc)}"
        ) from exc
    return {"unchanged": False, "accepting_after_s": answer.get("accepting_after_s")}


def settled(host: Host, limit_s: float) -> dict[str, Any]:
    """Return the supervisor's status once nothing is under way, such as a reload whose asker was killed.

    Empty if no supervisor runs.
    """
    until = time.monotonic() + limit_s
    is_told = False
    while status := running(host):
        if status.get("state") == "serving" or time.monotonic() > until:
            break
        if not is_told:
            tell("waiting", message=f"the engine is {status.get('state')} already, that is waited for")
            is_told = True
        time.sleep(0.05)
    return status


def start_first(host: Host, request: dict[str, Any], links: dict[str, str]) -> dict[str, Any]:
    """Start the engine where none runs. If that fails, links are as they were."""
    version, is_started = request["version"], False
    began = time.monotonic()
    try:
        if uses_systemd(host, request.get("service")):  # it starts what `current` names
            point(host, version, links)
        start(host, request)
        is_started, took_s = True, time.monotonic() - began
        point(host, version, links)
    except BaseException:
        if is_started:
            halt(host, request, running(host).get("pid"))
        for name, target in links.items():
            if host.links()[name] != target:
                link(host.root / name, target)
        raise
    return {"unchanged": False, "started": True, "accepting_after_s": round(took_s, 3)}


def point(host: Host, version: str, links: dict[str, str]) -> None:
    """Point ``current`` at a version and ``previous`` at the one before."""
    target = f"releases/{version}"
    if links["current"] == target:
        return
    if links["current"]:
        link(host.root / "previous", links["current"])
    link(host.root / "current", target)


def stop(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Stop the engine, drained."""
    there = running(host)
    if not there:
        return {"unchanged": True}
    took_s = halt(host, request, there.get("pid"))
    note(host, action="stop", version=host.linked("current"), ok=True, duration_s=took_s, **by(request))
    return {"unchanged": False, "duration_s": took_s}


def halt(host: Host, request: dict[str, Any], pid: object) -> float:
    """Have the supervisor end; return how long that took, seconds."""
    began = time.monotonic()
    if uses_systemd(host, request.get("service")):
        systemctl("stop")
    else:
        ask(host, {"cmd": "stop"}, timeout_s=STOP_WAIT_S)
    while time.monotonic() < began + STOP_WAIT_S:
        if not host.is_supervised() and not is_alive(pid):
            return time.monotonic() - began
        time.sleep(0.05)
    raise Refused("timeout", f"the engine (pid {pid}) has not stopped in {STOP_WAIT_S:g} s")


def is_alive(pid: object) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Tell what runs, what should run, and whether it is well."""
    current, good = host.linked("current"), host.good()
    there = {
        "current": current,
        "previous": host.linked("previous"),
        "releases": good,
        "unverified": [version for version in host.there() if version not in good],
    }
    found = running(host, 10)
    if not found:
        stopped = {"version": "", "state": "stopped", "workers": [], "ready": False, "served_version": ""}
        return {**stopped, **there, "drift": bool(current)}
    address = str(found.get("listen", ""))
    if found.get("state") == "starting":  # its clients wait, as we would
        ready = shown = (0, b"the engine is starting")
    else:
        ready, shown = front(address, "/readyz"), front(address, "/version")
    try:
        says = json.loads(shown[1]).get("version", "")
    except (ValueError, AttributeError):
        says = ""
    return {
        **found,
        **there,
        "ready": ready[0] == 200,  # noqa: PLR2004 - HTTP
        "ready_detail": "" if ready[0] == 200 else ready[1].decode(errors="replace")[:300],  # noqa: PLR2004
        "served_version": says,
        "drift": found.get("version") != current,
    }


def front(address: str, path: str) -> tuple[int, bytes]:
    """GET from the engine as a client would."""
    name, _, port = address.rpartition(":")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(name, name.strip("[]"))  # noqa: S104
    client = http.client.HTTPConnection(name, int(port or 0), timeout=5)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException) as exc:
        return 0, repr(exc).encode()
    finally:
        client.close()


# --- Locking -----------------------------------------------------------------------------------


def now_here() -> tuple[str, float]:
    """Return which boot this is, and seconds since: a clock that nobody sets."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


def held(host: Host) -> dict[str, Any] | None:
    """Return the deploy lock, with ``stale`` and ``age_s``; None when nobody has it."""
    found = read_json(host.lock)
    if not isinstance(found, dict):
        return None
    boot, now = now_here()
    age_s = now - float(found.get("beat", 0))
    found["age_s"] = round(age_s, 1)
    found["stale"] = found.get("boot") != boot or age_s > float(found.get("ttl_s", 0)) or age_s < 0
    return found


def lock(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Take the deploy lock, also a stale one; again with the same token is fine."""
    host.make()
    there = held(host)
    if there is not None and there.get("token") != request["token"]:
        if not there["stale"]:
            raise Refused("locked", describe(there))
        tell("stale", message=f"a stale lock is taken over: {describe(there)}")
    boot, now = now_here()
    kept = {key: request.get(key) for key in ("token", "who", "where", "why", "ttl_s", "deploy_id")}
    write_whole(host.lock, json.dumps({**kept, "at": time.time(), "boot": boot, "beat": now}).encode())
    return {}


def describe(found: dict[str, Any]) -> str:
    """Say whose a lock is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.get("at") or 0))
    return (
        f"locked by {found.get('who')} on {found.get('where')} since {since} ({found.get('why')}); "
        f"last sign of life {found['age_s']:.0f} s ago, stale after {found.get('ttl_s'):g} s"
    )


def need_lock(host: Host, token: str) -> None:
    """Refuse to go on for a run whose deploy lock is somebody else's now."""
    there = held(host)
    if there is None or there.get("token") != token:
        raise Refused("lost", "the lock is not ours any more" + (f": {describe(there)}" if there else ""))


def heartbeat(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Say that the holder lives."""
    need_lock(host, request["token"])
    there = held(host) or {}
    del there["age_s"], there["stale"]
    there["boot"], there["beat"] = now_here()
    write_whole(host.lock, json.dumps(there).encode())
    return {}


def unlock(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Give the lock back, or with ``force`` whosoever it is."""
    there = held(host)
    if there is None:
        return {"unchanged": True}
    if not request.get("force") and there.get("token") != request.get("token"):
        raise Refused("locked", describe(there))
    host.lock.unlink()
    if request.get("force"):
        note(host, action="unlock", version="", ok=True, error=describe(there), **by(request))
    return {"unchanged": False, "was": describe(there)}


# --- Pruning -----------------------------------------------------------------------------------


def prune(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Remove all but the last good releases; never one in use. Half-made ones go, too."""
    keep = request["keep"]
    if keep < 1:
        raise Refused("input", f"keep: takes a number from 1, not {keep!r}")
    good = host.good()
    kept = {version: why for version, why in host.in_use().items() if version in host.there()}
    order = [version for version in reversed(served(host)) if version in good]
    unserved = [version for version in good if version not in order]
    order += sorted(unserved, key=lambda version: (host.verified(version) or {}).get("at", 0), reverse=True)
    for version in order:
        if len(set(kept) & set(good)) >= keep:
            break
        kept.setdefault(version, "one of the last good ones")
    removed = {
        version: f"older than the last {keep}" if version in good else "half-made"
        for version in host.there()
        if version not in kept
    }
    if not request.get("dry_run"):
        for version, why in removed.items():
            remove_release(host.releases / version)
            tell("removed", version=version, why=why)
        if removed:
            note(host, action="prune", version=",".join(removed), ok=True, **by(request))
    return {"removed": list(removed), "kept": kept, "why": removed}


# --- Operations --------------------------------------------------------------------------------


def by(request: dict[str, Any]) -> dict[str, str]:
    """Return who asks."""
    return {key: str(request.get(key) or "") for key in ("who", "deploy_id")}


def facts(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Tell what decides whether this host can take a release."""
    folder = host.root
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    return {
        "python": platform.python_version(),
        "python_tag": python_tag(),
        "platform": platform_tag(),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "hostname": socket.gethostname(),
        "uid": os.geteuid(),
        "current": host.linked("current"),
        "previous": host.linked("previous"),
        "releases": host.good(),
        "lock": held(host),
        "service": "systemd" if uses_systemd(host, None) else "direct",
        "is_supervised": host.is_supervised(),
    }


def previous(host: Host, _request: dict[str, Any]) -> dict[str, Any]:
    """Return the version that a rollback goes to: the last good one before the current that is still here."""
    current, order = host.linked("current"), served(host)
    before = order[: order.index(current)] if current in order else order
    for version in reversed(before):
        if host.verified(version):
            return {"version": version, "current": current}
    raise Refused("missing", f"there is no good release before {current or 'the current one'} on this host")


def verify(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Compare every file of a release with what was unpacked."""
    version = request["version"]
    marker = need_verified(host, version)
    there, wanted = files_of(host.release(version)), marker.get("files", {})
    wrong = [f"{name} is missing" for name in wanted if name not in there]
    wrong += [
        f"{name} was changed" for name in wanted if name in there and sha256_of(there[name]) != wanted[name]
    ]
    wrong += [f"{name} was added" for name in there if name.startswith("venv/") and name not in wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""  # noqa: PLR2004 - enough to look at
        raise Refused(
            "damaged", f"{version}: {'; '.join(wrong[:3])}{more}; unpack it again under a new version"
        )
    return {"version": version, "files": len(wanted)}


def show_history(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Return the last entries."""
    return {"entries": history(host)[-int(request.get("limit") or 50) :]}


def add_history(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Add an entry of the controller's."""
    host.make()
    append(host, **request["entry"])
    return {}


#: Operation → what it does, what it needs of the request, and what it must not meet.
OPERATIONS: dict[str, tuple[Callable[[Host, Any], Any], tuple[str, ...], str]] = {
    "facts": (facts, (), ""),
    "unpack": (unpack, ("file", "sha256", "size", "version", "envelope", "trusted_keys"), OP_LOCK),
    "reload": (reload, ("version",), OP_LOCK),
    "stop": (stop, (), OP_LOCK),
    "prune": (prune, ("keep",), OP_LOCK),
    "status": (status, (), ""),
    "history": (show_history, (), ""),
    "append": (add_history, ("entry",), ""),
    "lock": (lock, ("token", "ttl_s"), LOCK_LOCK),
    "heartbeat": (heartbeat, ("token",), LOCK_LOCK),
    "unlock": (unlock, (), LOCK_LOCK),
    "verify": (verify, ("version",), ""),
    "previous": (previous, (), ""),
}


#: What the parts of requests take; None is as good as left out.
TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(
        (
            *("root", "file", "sha256", "version", "envelope", "listen", "service"),
            *("token", "who", "where", "why", "deploy_id", "action"),
        ),
        ((str,), "text"),
    ),
    **dict.fromkeys(("size", "min_free_bytes", "workers", "keep", "limit"), ((int,), "a number")),
    **dict.fromkeys(("bake_s", "timeout_s", "ttl_s"), ((int, float), "seconds")),
    **dict.fromkeys(("force", "dry_run"), ((bool,), "true or false")),
    "trusted_keys": ((list,), "a list"),
    "entry": ((dict,), "an object"),
}


def check_request(op: str, request: dict[str, Any], needed: tuple[str, ...]) -> None:
    """Refuse a request that lacks something, or where something is of the wrong kind."""
    for key in ("root", *needed):
        if request.get(key) is None:
            raise Refused("input", f"{op}: {key} is missing")
    for key, (kinds, what) in TAKES.items():
        value = request.get(key)
        if value is not None and type(value) not in kinds:
            raise Refused("input", f"{op}: {key}: takes {what}, not {value!r}")
    if request.get("service") not in {None, "auto", "systemd", "direct"}:
        raise Refused("input", f"{op}: service: takes auto, systemd or direct, not {request['service']!r}")


def perform(op: str, request: dict[str, Any]) -> dict[str, Any]:
    """Do one operation and return its answer."""
    function, needed, guard = OPERATIONS[op]
    check_request(op, request, needed)
    root = Path(request["root"])
    if not root.is_absolute():
        raise Refused("input", f"root: takes an absolute path, not {str(root)!r}")
    host = Host(root)
    if not guard:
        return function(host, request)  # type: ignore[no-any-return]
    host.make()
    with holding(host.root / guard, CHANGING_WAIT_S, "another operation"):
        if guard == OP_LOCK and request.get("token"):
            need_lock(host, request["token"])
        return function(host, request)  # type: ignore[no-any-return]


def main(argv: list[str]) -> int:
    """Do the operation that the arguments name; return the exit code."""
    if sys.version_info < PYTHON_MIN:
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        _write(
            {"ok": False, "kind": "python", "error": f"this host has Python {found}; 3.11 or newer is needed"}
        )
        return 1
    if len(argv) != 1 or argv[0] not in OPERATIONS:
        _write(
            {
                "ok": False,
                "kind": "input",
                "error": f"takes one of {' '.join(OPERATIONS)}, not {' '.join(argv)!r}",
            }
        )
        return 2
    os.umask(0o022)
    try:
        request = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError as exc:
        request = f"it is not JSON: {exc}"
    if not isinstance(request, dict):
        _write({"ok": False, "kind": "input", "error": f"standard input takes a JSON object, {request!r}"})
        return 2
    try:
        answer = perform(argv[0], request)
    except Refused as exc:
        _write({"ok": False, "kind": exc.kind, "error": str(exc), "log": exc.log})
        return 2 if exc.kind == "input" else 1
    except OSError as exc:
        refused = explain(exc)
        _write({"ok": False, "kind": refused.kind, "error": str(refused)})
        return 1
    except Exception as exc:  # noqa: BLE001 - whoever asked gets a sentence, not a traceback
        _write({"ok": False, "kind": "internal", "error": f"{argv[0]}: {type(exc).__name__}: {exc}"})
        return 1
    _write({"ok": True, **answer})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
