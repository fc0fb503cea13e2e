"""Rules of the regex_revalidate plug-in of Apache Traffic Server. Pure.

A rule is a line ``PATTERN EXPIRY RESULT``: an object whose URL matches, and whose ``Date`` is not later than
the moment in which the plug-in read the line, is stale (``STALE``: asked for with its validators; ``MISS``:
fetched as if it was not there) until EXPIRY, UNIX seconds. Measured on 9.2, and read in its source:

- the plug-in reads the file when its modification time, in whole seconds, is later than that of the file it
  read last; it looks every 60 s, and when the configuration is reloaded (``traffic_ctl config reload``);
- a pattern that it knows counts from the new moment on only when its EXPIRY differs;
- it passes over what it cannot compile, without a word, and reads lines of 2,047 bytes at most;
- what is no longer in the file stays in force until it expires, or ATS is started again: at its start the
  plug-in has the rules of the file alone, and takes from the state file since when each of them counts;
- its state file (``--state-file``) is written with each read: ``PATTERN EPOCH EXPIRY RESULT`` of all it has.

The pattern is compared with the URL behind remap.config, ``http://ORIGIN/PATH``, whatever Host the client
named. So a rule is for the paths of all hosts, unless the node's ``rules_url`` says how that URL begins for
each.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.nodes.drivers.patterns import grouped
from engine.tasks.words import Operation

OPERATIONS: Final = frozenset({Operation.PURGE_PREFIX, Operation.PURGE_REGEX, Operation.PURGE_HOST})
"""What rules can do."""
HOST: Final = "{host}"
"""In ``rules_url``: the host of a target."""
LINE_BYTES_MAX: Final = 2000
"""Of a rule: the plug-in cuts a line of more than 2,047 in two, which would be rules of their own."""
MARKER: Final = "^purgeline-marker:$"
"""The pattern of a rule that matches nothing; its expiry tells one writing of the file from another."""
_RULE: Final = re.compile(r"([^#\s]\S*)\s+([0-9]{1,18})(?:\s+(\w+))?\s*")
_STATE: Final = re.compile(r"([^#\s]\S*) ([0-9]{1,18}) ([0-9]{1,18}) (\w+)")


class Rule(NamedTuple):
    """What a line says of its pattern."""

    expiry: int  #: UNIX seconds
    result: str  #: ``STALE`` or ``MISS``


class InForce(NamedTuple):
    """What the plug-in says of a pattern that it has."""

    epoch: int  #: when it read the line, UNIX seconds
    expiry: int
    result: str = "STALE"


def pattern_of(operation: Operation, target: str, url: str = "") -> str:
    """Return the pattern of the rule that purges *target*.

    Args:
        operation: one of `OPERATIONS`.
        target: of the subtask.
        url: how URLs begin behind remap.config, where `HOST` stands for the host; empty: they have any host.
    """
    if operation is Operation.PURGE_HOST:
        return f"^{_start(url, target)}/"
    _, _, host, rest = target.split("/", 3)
    path = re.escape(rest) if operation is Operation.PURGE_PREFIX else grouped(rest)
    return f"^{_start(url, host)}/{path}"


def _start(url: str, host: str) -> str:
    if not url:
        return "https?://[^/]+"
    return _host(host).join(re.escape(part) for part in url.split(HOST))


def _host(host: str) -> str:
    """Return the pattern of a host, or of all those below a name: ``*.example.com``.

    A client may write the usual port behind a host, and any letter of it in upper case.
    """
    if host.startswith("*"):
        return f"(?i:[^/]+{re.escape(host[1:])})(?::[0-9]+)?"
    has_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
    return f"(?i:{re.escape(host)})" + ("" if has_port else "(?::(?:80|443))?")


def read_rules(text: str) -> tuple[list[str], dict[str, Rule]]:
    """Return the lines of a file that are no rules, and its rules by pattern."""
    others: list[str] = []
    rules: dict[str, Rule] = {}
    for line in text.splitlines():
        found = _RULE.fullmatch(line)
        if found is None:
            others.append(line)
        else:
            rules[found[1]] = Rule(int(found[2]), found[3] or "STALE")
    return others, rules


def text_of(others: list[str], rules: dict[str, Rule]) -> str:
    """Return the text of a file."""
    lines = [*others, *(f"{pattern} {rule.expiry} {rule.result}" for pattern, rule in rules.items())]
    return "".join(f"{line}\n" for line in lines)


def read_state(text: str) -> dict[str, InForce]:
    """Return what a state file says is in force, by pattern; a line that is not whole is left out."""
    found = (
        _STATE.fullmatch(line.rstrip("\n")) for line in text.splitlines(keepends=True) if line[-1] == "\n"
    )
    return {line[1]: InForce(int(line[2]), int(line[3]), line[4]) for line in found if line is not None}
