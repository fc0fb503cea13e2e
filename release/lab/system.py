"""The system packages that tests and benchmarks use: which are missing, and how to get them.

A package counts as there when its program or module is found, whoever put it
there; what dpkg says is not asked. `missing` and `plan` decide, `ensure` acts.

Packages are installed without their services being started where Debian can be
told so (``RUNLEVEL=1``). Where systemd is running, it starts them all the same:
use a machine or container kept for tests.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Exit code of a task that lacks system packages it cannot install itself.
EXIT_MISSING = 2

#: Where Debian puts daemons; an ordinary user's PATH often leaves them out.
SYSTEM_DIRS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

_LISTS = Path("/var/lib/apt/lists")
_APT_WAIT = ("-o", "DPkg::Lock::Timeout=120")  # seconds another installation may hold the lock


@dataclass(frozen=True, slots=True)
class Requirement:
    """One Debian package and what shows that it is there."""

    package: str
    probe: str  #: name of a program, or a pattern of a path below ``/``


REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "test": (
        Requirement("varnish", "varnishd"),
        Requirement("varnish-modules", "usr/lib*/*/varnish/vmods/libvmod_xkey.so"),
        Requirement("trafficserver", "traffic_server"),
        Requirement("nginx", "nginx"),
        Requirement("libnginx-mod-http-cache-purge", "usr/lib*/nginx/modules/ngx_http_cache_purge_module.so"),
        Requirement("squid", "squid"),
        Requirement("wrk", "wrk"),
        Requirement("redis-server", "redis-server"),
        Requirement("openssh-server", "sshd"),
        Requirement("iproute2", "ip"),
        Requirement("curl", "curl"),
        Requirement("gcc", "cc"),
        Requirement("libc6-dev", "usr/include/stdlib.h"),
        Requirement("strace", "strace"),
        Requirement("systemd", "systemd-analyze"),
        Requirement("logrotate", "logrotate"),
        Requirement("openssl", "openssl"),
        Requirement("procps", "sysctl"),
        Requirement("passwd", "useradd"),
        Requirement("sudo", "sudo"),
        Requirement("prometheus", "promtool"),
        Requirement("prometheus-alertmanager", "prometheus-alertmanager"),
        Requirement("chromium", "chromium"),
        Requirement("chromium-driver", "chromedriver"),
        Requirement("python3-aiosmtpd", "usr/lib/python3/dist-packages/aiosmtpd/smtp.py"),
    ),
    "all": (  # besides those of "test": images are built and run, and shells complete
        Requirement("podman", "podman"),
        Requirement("podman-compose", "podman-compose"),
        Requirement("netavark", "usr/lib/podman/netavark"),
        Requirement("aardvark-dns", "usr/lib/podman/aardvark-dns"),
        Requirement("iptables", "iptables"),
        Requirement("runc", "runc"),
        Requirement("mmdebstrap", "mmdebstrap"),
        Requirement("zsh", "zsh"),
        Requirement("fish", "fish"),
    ),
    "bench": (
        Requirement("varnish", "varnishd"),
        Requirement("varnish-modules", "usr/lib*/*/varnish/vmods/libvmod_xkey.so"),
        Requirement("trafficserver", "traffic_server"),
        Requirement("nginx", "nginx"),
        Requirement("libnginx-mod-http-cache-purge", "usr/lib*/nginx/modules/ngx_http_cache_purge_module.so"),
        Requirement("wrk", "wrk"),
        Requirement("redis-server", "redis-server"),
        Requirement("redis-tools", "redis-benchmark"),
        Requirement("curl", "curl"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts about this machine that decide how packages are installed on it."""

    has_apt: bool
    is_root: bool
    can_sudo: bool  #: without a password
    has_lists: bool  #: apt has read the lists of packages before


class MissingPackagesError(Exception):
    """System packages are missing and this user cannot install them.

    Args:
        packages: the Debian packages.
        commands: what an operator would run.
    """

    def __init__(self, packages: Sequence[str], commands: Sequence[Sequence[str]]) -> None:
        lines = [f"missing system packages: {' '.join(packages)}", "install them with:"]
        lines += [f"    {' '.join(command)}" for command in commands]
        super().__init__("\n".join(lines))
        self.packages = tuple(packages)


def missing(requirements: Iterable[Requirement], is_there: Callable[[str], bool]) -> list[str]:
    """Return the packages whose probe is not there, in the order given."""
    return [wanted.package for wanted in requirements if not is_there(wanted.probe)]


def can_install(machine: Machine) -> bool:
    """Say whether packages can be installed without asking anybody."""
    return machine.has_apt and (machine.is_root or machine.can_sudo)


def plan(packages: Sequence[str], machine: Machine) -> list[list[str]]:
    """Return the commands that install *packages*; the lists are read first only where there are none."""
    prefix = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    if not machine.is_root:
        prefix = ["sudo", *(["-n"] if machine.can_sudo else []), *prefix]
    install = [*prefix, "apt-get", *_APT_WAIT, "install", "-y", "-q", "--no-install-recommends", *packages]
    return [install] if machine.has_lists else [update_of(install), install]


def update_of(install: Sequence[str]) -> list[str]:
    """Return the command that reads the lists of packages, run the same way as *install*."""
    return [*install[: install.index("install")], "update", "-q"]


def ensure(
    purpose: str,
    *,
    is_there: Callable[[str], bool] | None = None,
    machine: Machine | None = None,
    run: Callable[[Sequence[str]], bool] | None = None,
    say: Callable[[str], object] = print,
) -> list[str]:
    """Install what *purpose* needs and this machine lacks; return those packages.

    Args:
        purpose: a key of `REQUIREMENTS`.
        is_there: tells whether a probe is found.
        machine: the machine to act on, by default this one.
        run: runs one command and tells whether it succeeded.
        say: takes each line meant for a person.

    Raises:
        MissingPackagesError: they cannot be installed, or did not install.
    """
    is_there, run = is_there or find, run or _run
    packages = missing(REQUIREMENTS[purpose], is_there)
    if not packages:
        return []
    machine = machine or this_machine()
    commands = plan(packages, machine)
    if not can_install(machine):
        raise MissingPackagesError(packages, commands)
    say(f"installing system packages: {' '.join(packages)}")
    install = commands[-1]
    # Lists that were read long ago name versions that are gone: read them and try once more.
    done = all(run(command) for command in commands) or (run(update_of(install)) and run(install))
    lacking = missing(REQUIREMENTS[purpose], is_there)
    if not done or lacking:
        raise MissingPackagesError(lacking or packages, commands)
    return packages


def find(probe: str) -> bool:
    """Look for a program on PATH and in `SYSTEM_DIRS`, or for a path that matches a pattern."""
    if "/" in probe:
        return next(Path("/").glob(probe), None) is not None
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_DIRS))
    return shutil.which(probe, path=places) is not None


def this_machine() -> Machine:
    """Look at the machine this runs on."""
    is_root = os.geteuid() == 0
    return Machine(
        has_apt=shutil.which("apt-get") is not None,
        is_root=is_root,
        can_sudo=not is_root
        and shutil.which("sudo") is not None
        and _run(["sudo", "-n", "true"], quiet=True),
        has_lists=any(_LISTS.glob("*_Packages*")),
    )


def _run(command: Sequence[str], *, quiet: bool = False) -> bool:
    stream = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    return done.returncode == 0
