"""What each kind of cache can do, how it is asked, and what its answers mean.

A driver is a module with these functions, all pure:

``capabilities(node)``
    the operations this node can do, as a frozenset.
``request(node, operation, target)``
    the bytes of one request, head and all. Targets come normalised (see ``urls``): they hold no
    space, no control character and no line end, so no target can add a header or a second request.
``read(operation, status, body_bytes)``
    the one reading of an answer, an `Outcome`.
``whose(node, operation, target, shape)``
    who gave an answer without a mark, by the `Shape` of its bytes; see `engine.nodes.evidence`.
``brought(shape)``
    whether the answer to a prefetch is the origin's: the cache has redirects and error pages of its own.

Only a driver's requests know where a node is purged (``purge_path`` and its default): what else asks a node
for a purge, such as its probe, has them made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.nodes.drivers import ats, engine, nginx, rules, squid, varnish
from engine.nodes.drivers.common import get_requester, read_prefetch
from engine.nodes.drivers.shape import NONCE, Shape, by_mark, foreign, shape_of
from engine.nodes.evidence import Whose
from engine.tasks.words import HARD, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig

PROBE_TARGET: Final = "http://purgeline-probe.invalid/.purgeline-probe"


class Driver(Protocol):
    """What a driver module has."""

    def capabilities(self, node: NodeConfig, /) -> frozenset[Operation]:
        """Return what *node* can do."""

    def requester(self, node: NodeConfig, operation: Operation, /) -> Callable[[str], str]:
        """Return the function that makes a target's request text."""

    def read(self, operation: Operation, status: int, body_bytes: int, /) -> Outcome:
        """Return what an answer means."""

    def whose(self, node: NodeConfig, operation: Operation, target: str, shape: Shape, /) -> Whose:
        """Return who gave an answer that bears no mark."""

    def brought(self, shape: Shape, /) -> bool:
        """Tell whether the answer to a GET came from the origin."""


DRIVERS: Final[dict[str, Driver]] = {
    "varnish": varnish,
    "ats": ats,
    "nginx": nginx,
    "squid": squid,
    engine.NAME: engine,
}

_REFUSALS: Final = {"ats": ats.refusal, "nginx": nginx.refusal}

_BY_TARGET: Final = frozenset({"nginx"})
"""Drivers whose own answers name the target, so that equal ones to two targets are not both own."""

_BY_END: Final = frozenset({"varnish"})
"""Drivers whose shape a server behind the node can have as well, but for what it says of its connection."""


_OF_PATTERNS: Final = frozenset({"varnish", engine.NAME})
"""Drivers that purge a pattern of hosts by one request."""

ONE_VARIANT: Final = frozenset({"nginx", "squid"})
"""Drivers whose purge of a URL drops one variant of a response with Vary: that of the purge's own headers."""
ONE_VARIANT_NOTE: Final = (
    "of a response with Vary only the variant that the node's own headers ask for is sure to go"
)
_ALL_HOSTS_NOTE: Final = (
    "its rules (rules_file) take the same paths of all hosts along: rules_url does not tell them apart"
)
_STALE_NOTE: Final = (
    "its rules (rules_result) mark stale: what they fit is served on while the origin cannot be reached"
)
_GENERATION_NOTE: Final = (
    "all that the remap rule of the host has goes, by a new generation: that of other hosts, too, "
    "where the rule is for several"
)
_UNTRIED_NOTE: Final = (
    "purges by prefix, regex and host (rules_file, generation_header) were not tried: they purge for good"
)
_NO_SOFT_NOTE: Final = "soft purges are done as hard ones"


def capabilities(node: NodeConfig) -> frozenset[Operation]:
    """Return what *node* can do."""
    return DRIVERS[node.driver].capabilities(node)


def takes_host_patterns(node: NodeConfig) -> bool:
    """Tell whether *node* can purge what is of all hosts below a name: ``*.example.com``."""
    return node.driver in _OF_PATTERNS or Operation.PURGE_HOST in by_rules(node)


def is_engine(node: NodeConfig) -> bool:
    """Tell whether *node* is itself an engine: it is handed tasks, and is no cache that could be visited."""
    return node.driver == engine.NAME


def by_rules(node: NodeConfig) -> frozenset[Operation]:
    """Return what *node* does by rules in a file that it reads; what else it can, a request asks for."""
    return ats.by_rules(node) if node.driver == "ats" else frozenset()


def for_canaries(node: NodeConfig) -> frozenset[Operation]:
    """Return what canaries may ask *node* for again and again.

    A rule of ATS stays for a month, and a generation takes along all else that its remap rule has.
    """
    return capabilities(node) - (rules.OPERATIONS if node.driver == "ats" else frozenset())


def notes(node: NodeConfig) -> tuple[str, ...]:
    """Return what *node* does otherwise than one may expect of a purge, each in one sentence."""
    variants = (ONE_VARIANT_NOTE,) if node.driver in ONE_VARIANT else ()
    return variants if Operation.SOFT_URL in capabilities(node) else (*variants, _NO_SOFT_NOTE)


def wide_note(node: NodeConfig, operation: Operation) -> str:
    """Return what a purge of more than a URL takes along or leaves, in one sentence; empty: nothing."""
    if operation in by_rules(node):
        all_hosts = "" if rules.HOST in node.rules_url else _ALL_HOSTS_NOTE
        stale = _STALE_NOTE if marks_stale(node, operation) else ""
        return "; ".join(filter(None, (all_hosts, stale)))
    is_wide = operation in rules.OPERATIONS
    return _GENERATION_NOTE if node.generation_header and is_wide else ""


def marks_stale(node: NodeConfig, operation: Operation) -> bool:
    """Tell whether rules of *node* do this, and keep what they fit for when the origin is away."""
    return node.rules_result == "stale" and operation in by_rules(node)


def untried(node: NodeConfig) -> tuple[str, ...]:
    """Return what of *node* no probe tries, in one sentence: a probe asks for a purge of a URL alone."""
    return (_UNTRIED_NOTE,) if node.rules_file or node.generation_header else ()


def sent_for(node: NodeConfig, operation: Operation) -> Operation | None:
    """Return what *node* is sent for an operation that a task was accepted for; None: nothing of the kind.

    The node may have had another cache then. A soft purge is hard where the cache has no soft one.
    """
    able = capabilities(node)
    if operation in able:
        return operation
    hard = HARD.get(operation)
    return hard if hard in able else None


def requester(node: NodeConfig, operation: Operation) -> Callable[[str], str]:
    """Return the function that turns a target into request text (ASCII) for *node*."""
    if operation is Operation.PREFETCH:
        return get_requester(node)
    return DRIVERS[node.driver].requester(node, sent_for(node, operation) or operation)


def method(node: NodeConfig, operation: Operation) -> str:
    """Return the HTTP method of a request, such as ``BAN``."""
    return requester(node, operation)(PROBE_TARGET).partition(" ")[0]


def probe_text(node: NodeConfig, nonce: str) -> str:
    """Return the request that shows whether *node* takes purges: one of a URL that nobody has.

    A marked cache repeats *nonce*, which is hexadecimal. The connection is kept, because caches say something
    else when it ends.
    """
    text = requester(node, Operation.PURGE_URL)(PROBE_TARGET)
    return text.removesuffix("\r\n") + f"{NONCE}: {nonce}\r\n\r\n"


def end_text(node: NodeConfig, target: str) -> str:
    """Return a purge of *target* that ends its connection, where the answer shows more than others; or "".

    A server behind a pipe is not told that the connection is to end, and does not say so.
    """
    if node.driver not in _BY_END:
        return ""
    return requester(node, Operation.PURGE_URL)(target).removesuffix("\r\n") + "Connection: close\r\n\r\n"


def is_piped(answer: bytes) -> bool:
    """Tell from the answer to `end_text` whether it came through a pipe."""
    return b"\r\nconnection: close\r\n" not in answer.lower()


def read(node: NodeConfig, operation: Operation, status: int, body_bytes: int) -> Outcome:
    """Return what a node's answer means for a subtask."""
    if operation is Operation.PREFETCH:
        return read_prefetch(status)
    return DRIVERS[node.driver].read(sent_for(node, operation) or operation, status, body_bytes)


def brings(node: NodeConfig, answer: bytes) -> bool:
    """Tell whether an answer to a prefetch, no 2xx, shows a page of the origin that the cache may keep.

    Args:
        node: that was asked.
        answer: see `whose`.
    """
    shape = shape_of(answer)
    if shape is None or by_mark(node, shape) is not None or not DRIVERS[node.driver].brought(shape):
        return False
    control = b",".join(shape.all(b"cache-control")).lower()
    return b"no-store" not in control and b"private" not in control


def refusal(node: NodeConfig, operation: Operation, status: int, body_bytes: int) -> str:
    """Return what an operator has to change on *node*, where a status does not say it; empty: it does."""
    of = _REFUSALS.get(node.driver)
    return of(operation, status, body_bytes) if of is not None else ""


def depends_on_target(node: NodeConfig) -> bool:
    """Tell whether the bytes of an answer of *node* show more beside the target that it was asked for."""
    return node.driver in _BY_TARGET


def whose(node: NodeConfig, operation: Operation, target: str, answer: bytes) -> Whose:
    """Return who gave an answer of *node*: the cache itself, or a server behind it.

    Marks count first, then the shape that the driver's cache gives its answers. What a prefetch brings is the
    origin's by nature: it is always the cache's own.

    Args:
        node: that was asked.
        operation: what it was asked.
        target: of that subtask.
        answer: its bytes: the head from the status line through the empty line, and up to 2 KiB of the body.
    """
    if operation is Operation.PREFETCH:
        return Whose.OWN
    shape = shape_of(answer)
    if shape is None:
        return Whose.UNTOLD
    marked = by_mark(node, shape)
    if marked is not None:
        return marked
    if foreign(shape):
        return Whose.FORWARDED
    return DRIVERS[node.driver].whose(node, sent_for(node, operation) or operation, target, shape)
