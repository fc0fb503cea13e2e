"""What options take, as argparse has it: functions from a word to its value, or an error that says what."""

from __future__ import annotations

import argparse
import re

from engine.base.tuples import NamedTuple
from engine.cli.meant import did_you_mean

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Final

TIMEOUT_S: Final = 10.0  #: of an engine's answer, where nothing else is said
PORT_MAX: Final = 65535
DRIVERS: Final = ("varnish", "nginx", "ats", "squid")


class Backend(NamedTuple):
    """Where a cache fetches."""

    host: str  #: an IPv6 address without brackets
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def network(text: str) -> str:
    """Return an address or a network, as it is written."""
    import ipaddress  # noqa: PLC0415 - few commands take one

    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}; it takes an address or a network (10.0.0.0/24)") from None
    if "%" in text:
        raise argparse.ArgumentTypeError(
            f"{text!r}: caches take no scope of an address: leave out what follows %"
        )
    return text


def field(text: str) -> str:
    """Return the name of a header, as VCL takes it."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,126}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a header, such as X-Cache-Tags")
    return text


def node_name(text: str) -> str:
    """Return the name of a node, as the configuration takes it: caches' quotes end where it has one."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a node: use 1-64 of A-Z a-z 0-9 . _ -, a letter or digit first"
        )
    return text


def backend(text: str) -> Backend:
    """Return a host and a port."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if not match or not 0 < int(match[3]) <= PORT_MAX or not (match[2] or _is_ipv6(match[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return Backend(match[1] or match[2], int(match[3]))


def cache(text: str) -> tuple[str, str]:
    """Return the driver and the URL of a cache."""
    driver, sign, url = text.partition("=")
    if sign and driver not in DRIVERS and (meant := did_you_mean(driver, DRIVERS)):
        raise argparse.ArgumentTypeError(f"there is no cache {driver!r}{meant}")
    if driver not in DRIVERS or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(
            f"{text!r}: takes KIND=URL, such as varnish=http://127.0.0.1:6081; kinds: {', '.join(DRIVERS)}"
        )
    return driver, url


def _is_ipv6(text: str) -> bool:
    import ipaddress  # noqa: PLC0415 - as above

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def port(text: str) -> int:
    """Return a port."""
    if not (re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, from 1 to {PORT_MAX}")
    return int(text)


def file(text: str) -> Path:
    """Return the path of a file of this machine."""
    from pathlib import Path  # noqa: PLC0415 - brings urllib and ipaddress: commands without files start sooner

    return Path(text)


def path(text: str) -> str:
    """Return an absolute path that needs no quotes in any cache's configuration."""
    absolute = str(file(text).absolute())
    if not re.fullmatch(r"[A-Za-z0-9/._-]+", absolute):
        raise argparse.ArgumentTypeError(
            f"{absolute!r}: use A-Z a-z 0-9 / . _ - for a path in a configuration"
        )
    return absolute


def count(text: str) -> int:
    """Return a whole number from 1 up."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def slot(text: str) -> int:
    """Return the slot of a worker."""
    if not re.fullmatch("[0-9]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no worker: 0 is the first")
    return int(text)


def moment(text: str) -> float:
    """Return UNIX seconds."""
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return float(text)
    from datetime import datetime  # noqa: PLC0415 - as above

    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: takes UNIX seconds, or 2026-11-30T04:00, with Z or +01:00 for another zone"
        ) from None


def rebound(text: str) -> float:
    """Return a number of seconds, which may be 0."""
    return 0.0 if re.fullmatch(r"0+(\.0+)?", text) else seconds(text)


def seconds(text: str) -> float:
    """Return a number above 0."""
    if not (re.fullmatch(r"\d{1,8}(\.\d+)?|\.\d+", text) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def verify(text: str) -> bool | dict[str, int]:
    """Return what a task's ``verify`` takes: whether each target is looked at, or of how many a sample is."""
    if text in {"all", "off"}:
        return text == "all"
    word, _, number = text.partition(":")
    if not (word == "sample" and re.fullmatch(r"[0-9]{1,8}", number) and int(number)):
        meant = did_you_mean(word, ("all", "off", "sample:N"))
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of all, off and sample:N, with N from 1 up{meant}"
        )
    return {"sample": int(number)}


def task_id(text: str) -> str:
    """Return the id of a task."""
    if not re.fullmatch(r"[A-Za-z0-9._-][A-Za-z0-9._~-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no task id: 1-64 of A-Z a-z 0-9 . _ -")
    return text


def speed(text: str) -> float:
    """Return how many times as fast as it was recorded; 0 stands for ``max``."""
    if text == "max":
        return 0.0
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)%", text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(
            f"{text!r}: takes a share of the recorded rate, such as 200%, or max"
        )
    return float(match[1]) / 100


def share(text: str) -> float:
    """Return a share of all, above 0 and up to 1."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", text)
    if match is None or not 0 < float(match[1]) <= 100:  # noqa: PLR2004 - per cent
        raise argparse.ArgumentTypeError(f"{text!r}: takes a share of all, such as 10%")
    return float(match[1]) / 100


def size(text: str) -> int:
    """Return a number of bytes."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: takes a number of bytes, such as 500000, 100M or 2G")
    return int(match[1]) << 10 * " KMG".index(match[2] or " ")
