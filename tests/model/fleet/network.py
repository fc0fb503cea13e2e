"""A network of this process's own: each host in a namespace, any two of which can be cut off from each other.

`run_inside` runs the program again in namespaces of its own for the network, for mounts and for processes:
all that is started in there, and all that is named, ends with it. A cut is a wrong hardware address in the
table of neighbours: packets get lost, and nobody is told. Needs root, or user namespaces, and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.rigs.redis_servers import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_INSIDE: Final = "PURGELINE_MODEL_NETWORK"
_BRIDGE: Final = "br0"
_NET: Final = "10.88.0."
_NOWHERE: Final = "02:00:00:00:00:ff"
_SPACES: Final = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def needs() -> str:
    """Return what is missing for such a network; empty: nothing."""
    for name in ("ip", "unshare"):
        if shutil.which(name) is None:
            return f"the command {name} is missing (iproute2, util-linux)"
    tried = subprocess.run(_unshare("true"), capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no namespace can be made: {tried.stderr.strip()}"


def is_inside() -> bool:
    """Tell whether this process runs in a network of its own."""
    return os.environ.get(_INSIDE) == "1"


def run_inside(argv: Sequence[str]) -> int:
    """Run *argv* in a network of its own; return its exit code."""
    return subprocess.run(_unshare(*argv), env=os.environ | {_INSIDE: "1"}, check=False).returncode


def _unshare(*argv: str) -> list[str]:
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *root, *_SPACES, *argv]


class Network:
    """Hosts, by name, and further addresses of the host that runs the model."""

    def __init__(self) -> None:
        assert is_inside(), "the process is not in a network of its own"
        self._addresses: dict[str, str] = {}
        self._hosts: dict[str, Place] = {}
        self.cuts: set[tuple[str, str]] = set()  #: whose packets do not come to whom
        names = Path("/run/netns")
        names.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", str(names))
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "link", "set", _BRIDGE, "up")
        self.address("model")

    def address(self, name: str) -> str:
        """Return an address of the host that runs the model, a new one for a new name."""
        if name not in self._addresses:
            self._addresses[name] = f"{_NET}{200 + len(self._addresses) - len(self._hosts)}"
            _run("ip", "addr", "add", f"{self._addresses[name]}/24", "dev", _BRIDGE)
        return self._addresses[name]

    def place(self, name: str) -> Place:
        """Return a host, a new one for a new name."""
        if name not in self._hosts:
            self._hosts[name] = self._make_host(name, len(self._hosts) + 1)
        return self._hosts[name]

    def _make_host(self, name: str, number: int) -> Place:
        address = self._addresses[name] = f"{_NET}{number}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", f"veth{number}", "master", _BRIDGE, "up")
        _batch(name, [f"addr add {address}/24 dev eth0", "link set lo up", "link set eth0 up"])
        return Place(address, ("ip", "netns", "exec", name))

    def name_of(self, address: str) -> str:
        """Return whose address that is."""
        return next((name for name, one in self._addresses.items() if one == address), address)

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Let no packet pass between *some* and *others*, hosts or names of addresses."""
        self._change([(a, b) for a in some for b in others if a != b], is_cut=True)

    def mend(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Let packets pass again."""
        self._change([(a, b) for a in some for b in others if a != b], is_cut=False)

    def mend_all(self) -> None:
        """Let all packets pass."""
        self._change(list(self.cuts), is_cut=False)

    def slow(self, name: str, rate: str) -> None:
        """Let a host's packets pass at *rate* each way, such as ``64kbit``, with a queue of 400 ms."""
        for line in self._ways(name):
            _run("tc", *line.split(), "root", "tbf", "rate", rate, "burst", "4kb", "latency", "400ms")

    def full_speed(self, name: str) -> None:
        """Let them pass as fast as they come."""
        for line in self._ways(name):
            _run("tc", *line.replace("add", "del").split(), "root")

    def _ways(self, name: str) -> tuple[str, str]:
        number = self._addresses[name].rpartition(".")[2]
        return f"-n {name} qdisc add dev eth0", f"qdisc add dev veth{number}"

    def _change(self, pairs: list[tuple[str, str]], *, is_cut: bool) -> None:
        ways = {way for a, b in pairs for way in ((a, b), (b, a)) if way[0] in self._hosts}
        by_host: dict[str, list[str]] = {}
        for host, other in ways:
            if is_cut:
                self.cuts.add((host, other))
                line = f"neigh replace {self._addresses[other]} lladdr {_NOWHERE} dev eth0 nud permanent"
            elif (host, other) in self.cuts:
                self.cuts.discard((host, other))
                line = f"neigh del {self._addresses[other]} dev eth0"
            else:
                continue
            by_host.setdefault(host, []).append(line)
        for host, lines in by_host.items():
            _batch(host, lines)


def _batch(host: str, lines: list[str]) -> None:
    _run("ip", "-n", host, "-batch", "-", text="\n".join(lines) + "\n")


def _run(*argv: str, text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} {text}: {done.stderr}")
