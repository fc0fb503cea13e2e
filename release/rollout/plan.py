"""Decides what a deploy or a rollback does, on which host, in which order; reads and runs nothing.

Batches are written ``1,25%,100%``: each entry is the size of one batch, a count or a share of all hosts
rounded up. The first batch is the canary. The last entry is repeated until no host is left; a batch never
has more hosts than are left. Hosts of a group named ``canary`` go first, else the order of the inventory
counts, so the same inventory gives the same batches, also when a deploy is resumed: hosts that are on the
version already keep their place and get no steps.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from release.inventory import Host

CANARY: Final = "canary"  #: the group whose hosts go first
SALT, UNPACK, SHADOW, RELOAD, WATCH = "salt", "unpack", "shadow", "reload", "watch"  #: the steps, in order

_SIZE: Final = re.compile(r"([0-9]{1,6})(%?)")
_PERCENT_MAX: Final = 100


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says about itself: the parts of its answers that decide something here."""

    name: str
    python: str = ""  #: tag such as ``cp311``
    platform: str = ""  #: tag such as ``linux_x86_64``
    free_bytes: int = 0
    current: str = ""  #: version that ``current`` points to
    previous: str = ""
    running: str = ""  #: version that serves; empty when nothing runs
    releases: list[str] = []  #: versions that are unpacked and verified
    digests: dict[str, str] = {}  #: SHA-256 of the artefact that each of them was made of
    yanked: dict[str, str] = {}  #: why versions that are unpacked there were yanked
    state: str = ""  #: of the supervisor: serving, reloading, baking, stopping; empty when none runs
    why_sudo: str = ""  #: why everything is done there as root by sudo; empty: it is not
    listen: str = ""  #: ``engine.listen`` of its configuration; empty when there is none
    workers: int = 0  #: processes that run; 0 when nothing runs
    unit_workers: int = 0  #: processes that systemd's unit starts; 0 where systemd does not run it
    lock: str = ""  #: who holds it and why; empty when nobody does
    lock_id: str = ""  #: deploy that holds it; empty when nobody does, or its time is over

    @property
    def is_busy(self) -> bool:
        """Whether a reload is under way."""
        return self.state in {"reloading", "baking"}

    def has_other(self, version: str, sha256: str) -> bool:
        """Whether *version* is unpacked, and was made of another artefact than the one with this digest."""
        return bool(sha256) and version in self.releases and self.digests.get(version) != sha256

    def is_on(self, version: str) -> bool:
        """Whether the host serves *version*, and would after a restart too."""
        return bool(version) and version == self.current == self.running


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done on one host."""

    host: str
    was: str  #: version it is on; empty when it has none
    to: str
    steps: list[str]  #: empty: nothing to do
    note: str = ""  #: why there is nothing to do


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done, batch by batch."""

    action: str  #: ``deploy``, ``unpack``, ``reload`` or ``rollback``
    version: str  #: empty when every host goes to a version of its own
    batches: list[list[HostPlan]]
    failures_max: int = 0

    @property
    def hosts(self) -> list[HostPlan]:
        """All hosts, in the order in which they are worked on."""
        return [host for batch in self.batches for host in batch]

    @property
    def is_done(self) -> bool:
        """Whether no host has a step to do."""
        return not any(host.steps for host in self.hosts)


def parse_batches(text: str) -> list[tuple[int, bool]]:
    """Return the sizes in *text*, each as a number and whether that is a percentage.

    Raises:
        SettingsError: it is not like ``1,25%,100%``.
    """
    sizes = []
    for part in text.split(","):
        size = _SIZE.fullmatch(part.strip())
        number, is_share = (int(size[1]), bool(size[2])) if size else (0, False)
        if not number or (is_share and number > _PERCENT_MAX):
            raise SettingsError(
                f"batches: {part.strip()!r} in {text!r} is no size; "
                "write counts and percentages such as 1,25%,100%"
            )
        sizes.append((number, is_share))
    return sizes


def split(names: Sequence[str], sizes: Sequence[tuple[int, bool]]) -> list[list[str]]:
    """Cut *names* into batches of *sizes*; every name is in exactly one."""
    remaining = list(names)
    batches: list[list[str]] = []
    while remaining:
        number, is_share = sizes[min(len(batches), len(sizes) - 1)]
        count = math.ceil(len(names) * number / _PERCENT_MAX) if is_share else number
        batches.append(remaining[:count])
        remaining = remaining[count:]
    return batches


def order(hosts: Sequence[Host]) -> list[str]:
    """Return the names in the order of work: canaries first, else as in the inventory."""
    return [host.name for host in sorted(hosts, key=lambda host: CANARY not in host.groups)]


def deploy_plan(
    hosts: Sequence[Host],
    states: Mapping[str, HostState],
    version: str,
    *,
    batches: str,
    failures_max: int = 0,
    with_salt: bool = False,
    digests: Mapping[str, str] | None = None,
) -> Plan:
    """Plan to bring *version* to *hosts*.

    Args:
        hosts: in the order of the inventory.
        states: of all of them.
        version: to deploy.
        batches: sizes, see the module.
        failures_max: hosts that may fail after the canary.
        with_salt: whether the release's states are applied before it is unpacked.
        digests: SHA-256 of the artefact for each host, by the index; a host whose *version* was made of
            another one gets no steps.

    Raises:
        SettingsError: *batches* cannot be used.
    """
    cut = split(order(hosts), parse_batches(batches))
    wanted = digests or {}
    planned = [
        [_deploy_host(states[name], version, wanted.get(name, ""), with_salt=with_salt) for name in batch]
        for batch in cut
    ]
    return Plan(action="deploy", version=version, batches=planned, failures_max=failures_max)


def with_shadow(plan: Plan) -> Plan:
    """Return *plan* with the comparison on the first host that it changes, before its engine is."""
    first = next((host.host for host in plan.hosts if RELOAD in host.steps), None)
    batches = [
        [
            msgspec.structs.replace(host, steps=_before_reload(host.steps)) if host.host == first else host
            for host in batch
        ]
        for batch in plan.batches
    ]
    return msgspec.structs.replace(plan, batches=batches)


def _before_reload(steps: list[str]) -> list[str]:
    place = steps.index(RELOAD)
    return [*steps[:place], SHADOW, *steps[place:]]


def _deploy_host(state: HostState, version: str, sha256: str, *, with_salt: bool) -> HostPlan:
    was = state.running or state.current
    if state.has_other(version, sha256):
        note = f"has {version} with other bytes"
        return HostPlan(host=state.name, was=was, to=version, steps=[], note=note)
    if state.is_on(version):
        return HostPlan(host=state.name, was=was, to=version, steps=[], note=f"on {version} already")
    steps = [*([SALT] if with_salt else []), *([] if version in state.releases else [UNPACK]), RELOAD, WATCH]
    return HostPlan(host=state.name, was=was, to=version, steps=steps)


def move_plan(
    action: str,
    hosts: Sequence[Host],
    states: Mapping[str, HostState],
    targets: Mapping[str, str],
    *,
    batches: str,
    failures_max: int = 0,
) -> Plan:
    """Plan to bring each host of *targets* to its version there, which is unpacked.

    Args:
        action: ``rollback``; or ``reload``, which also reloads hosts that are on the version, for their
            configuration.
        hosts: in the order of the inventory.
        states: of the hosts in *targets*, at least.
        targets: version by host.
        batches: sizes, see the module.
        failures_max: hosts that may fail after the canary.

    Raises:
        SettingsError: *batches* cannot be used.
    """
    names = [name for name in order(hosts) if name in targets]
    planned = [
        [_move_host(states[name], targets[name], is_forced=action == RELOAD) for name in batch]
        for batch in split(names, parse_batches(batches))
    ]
    versions = set(targets.values())
    version = versions.pop() if len(versions) == 1 else ""
    return Plan(action=action, version=version, batches=planned, failures_max=failures_max)


def _move_host(state: HostState, version: str, *, is_forced: bool) -> HostPlan:
    was = state.running or state.current
    if state.is_on(version) and not is_forced:
        return HostPlan(host=state.name, was=was, to=version, steps=[], note=f"on {version} already")
    return HostPlan(host=state.name, was=was, to=version, steps=[RELOAD, WATCH])


def unpack_only(plan: Plan) -> Plan:
    """Return *plan* with nothing but the unpacking, all hosts at once."""
    hosts = [
        msgspec.structs.replace(
            host,
            steps=[step for step in host.steps if step == UNPACK],
            note="" if UNPACK in host.steps else f"has {host.to} already",
        )
        for host in plan.hosts
    ]
    return msgspec.structs.replace(plan, action=UNPACK, batches=[hosts] if hosts else [])


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan as text, a line per batch and host."""
    what = f"{plan.action} {plan.version}".strip()
    printed = [
        f"{what}: {_count(len(plan.hosts), 'host')} in {_count(len(plan.batches), 'batch', 'batches')}"
    ]
    width = max((len(host.host) for host in plan.hosts), default=0)
    for number, batch in enumerate(plan.batches, start=1):
        is_canary = number == 1 and len(plan.batches) > 1
        printed.append(f"  batch {number}{' (canary)' if is_canary else ''}: {_count(len(batch), 'host')}")
        for host in batch:
            doing = " -> ".join(host.steps) or f"nothing: {host.note}"
            change = f"{host.was or 'nothing'} -> {host.to}" if host.steps else host.to
            printed.append(f"    {host.host:<{width}}  {change}: {doing}")
    if plan.is_done:
        printed.append("  nothing to do")
    else:
        printed.append(
            f"  stops at a failed canary, else past {_count(plan.failures_max, 'failed host')}; "
            "then what was changed is taken back"
        )
    return printed


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the plan as a JSON document."""
    built: dict[str, Any] = msgspec.to_builtins(plan)
    return built


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
