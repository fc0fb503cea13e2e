"""Stands in for pip where a test needs many releases on a host: installs wheels in a hundredth of the time.

A wheel is unpacked and compiled once, beside the interpreter, and copied from then on: the agent compiles
what has no bytecode, two seconds of work for a real release on each host. Other wheels than ours, which no
test changes, are copied to a host once and linked into its releases.
The host's agent calls it as it calls pip; other arguments are refused. Scripts of wheels are left out.
`make_python` gives an interpreter whose pip this is. What unpacking means with the real one is in
``test_host_unpack`` and ``test_deploy``.
"""

import argparse
import compileall
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

LIBRARY = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
SWITCHES = ("index", "compile", "cache-dir", "input", "deps")


def make_python(folder: Path) -> Path:
    """Make an interpreter that has this module as pip, and otherwise what this one has; return its path."""
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", folder], check=True)
    library = folder / LIBRARY
    (library / "pip").mkdir()
    (library / "pip" / "__init__.py").touch()
    shutil.copyfile(__file__, library / "pip" / "__main__.py")
    (library / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin/python"


def install(python: Path, wheels: Path, requirements: Path) -> None:
    """Unpack the wheels whose hashes the requirements name; each of them must be there."""
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in wheels.glob("*.whl")}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        digest = line.partition("--hash=sha256:")[2]
        source, place = unpacked(by_hash[digest], digest), python.parents[1] / LIBRARY
        if line.startswith("purgeline"):
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            near = python.parents[5] / ".wheels" / digest  # a link does not leave the file system
            if not near.exists():
                shutil.copytree(source, near)
            shutil.copytree(near, place, copy_function=os.link, dirs_exist_ok=True)


def unpacked(wheel: Path, digest: str) -> Path:
    """Return a folder with the files of a wheel and their bytecode; several processes may want it at once."""
    kept = Path(sys.prefix) / "wheels" / digest
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            made = Path(folder) / "made"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made)
            compileall.compile_dir(made, quiet=2)
            with contextlib.suppress(OSError):  # another one was quicker
                os.rename(made, kept)  # noqa: PTH104 - one that replaces nothing
    return kept


def main() -> None:
    """Read the command line as pip would."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("command", choices=["install"])
    for name in SWITCHES:
        parser.add_argument(f"--no-{name}", action="store_true", required=name != "input")
    parser.add_argument("--require-hashes", action="store_true", required=True)
    parser.add_argument("--disable-pip-version-check", action="store_true")
    parser.add_argument("--ignore-installed", action="store_true")
    parser.add_argument("--only-binary")
    parser.add_argument("-q", action="store_true")
    parser.add_argument("--find-links", type=Path, required=True)
    parser.add_argument("-r", type=Path, required=True)
    order = parser.parse_args()
    install(order.python, order.find_links, order.r)


if __name__ == "__main__":
    main()
