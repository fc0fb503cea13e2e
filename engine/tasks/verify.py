"""What is to be verified of a task, and what that came to: with its document, and in the journal. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

URLS_MAX: Final = 100  #: that a task may name to be looked at
REASONS_MAX: Final = 100
SEEN_MAX: Final = 100  #: targets of which a node's digest is kept; of more there is none
Mode = Literal["all", "sample", "urls"]


class Run(Protocol):
    """What is at work on a verification."""

    def stop(self) -> None:
        """Look at nothing more."""


class VerifyAsked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is looked at on each node, as the journal keeps it (JSON)."""

    mode: Mode
    count: int = 0  #: targets of a sample
    urls: tuple[str, ...] = ()  #: in stored form


class VerifyDocument(msgspec.Struct):
    """What visits after the acks came to; ``checked`` is the sum of the three behind it."""

    mode: Annotated[Mode, Meta(description="what was looked at on each node")]
    checked: int = 0
    verified: int = 0
    stale: Annotated[int, Meta(description="still served what was purged, after two visits")] = 0
    unverifiable: int = 0
    rules: Annotated[
        dict[str, int],
        Meta(
            description="how many were decided by what: etag, last_modified, digest, status, time (stored "
            "after the ack, which says nothing of the content)"
        ),
    ] = {}
    note: Annotated[str, Meta(description="why it is a sample, where all was asked for")] = ""
    reasons: Annotated[
        list[str],
        Meta(description="why some are unverifiable", extra_json_schema={"maxItems": REASONS_MAX}),
    ] = []


class OfNode:
    """What a node's visits came to.

    Attributes:
        stale: how many targets were.
        verified_at: UNIX time of the last visit that verified a target; 0: none did.
    """

    __slots__ = ("_digest", "_seen", "stale", "verified_at")

    def __init__(self) -> None:
        self.stale = 0
        self.verified_at = 0.0
        self._seen: dict[str, Sequence[str]] | None = {}  # of targets; None: they were too many
        self._digest = ""

    def saw(self, target: str, digests: Sequence[str]) -> None:
        """Note what visitors of a verified target get: the SHA-256 of each variant; empty: nobody knows."""
        if self._seen is not None:
            self._seen[target] = digests
            self._digest = ""
            if len(self._seen) > SEEN_MAX:
                self._seen = None

    @property
    def digest(self) -> str | None:
        """SHA-256 over what was verified; None: nothing was, of no body it is known, or targets are too many.

        One body has its own; several have that of the sorted lines ``target digest`` (``-``: unknown).
        """
        if not self._seen:
            return None
        if not self._digest:
            seen = {(target, digest) for target, digests in self._seen.items() for digest in digests}
            if not any(digest for _, digest in seen):
                return None
            if len(seen) == 1:
                [(_, self._digest)] = seen
            else:
                lines = sorted(f"{target} {digest or '-'}\n" for target, digest in seen)
                self._digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        return self._digest


class Verify:
    """The verification of one task.

    Attributes:
        asked: what is to be looked at.
        document: what it came to so far.
        nodes: the same by the name of the node.
        run: what is at work on it; None before the task is expanded, and when it is over.
    """

    __slots__ = ("asked", "document", "nodes", "run")

    def __init__(self, asked: VerifyAsked) -> None:
        self.asked = asked
        self.document = VerifyDocument(asked.mode)
        self.nodes: dict[str, OfNode] = {}
        self.run: Run | None = None

    @property
    def text(self) -> bytes:
        """What the journal keeps."""
        return _encode(self.asked)

    def of(self, node: str) -> OfNode:
        """Return a node's part, made when it is first asked for."""
        return self.nodes.setdefault(node, OfNode())

    def fold(self, node: str, told: VerifyDocument, now: float) -> None:
        """Add what an engine that is a node found on its own nodes; its reasons begin with their names."""
        document, of_node = self.document, self.of(node)
        document.checked += told.checked
        document.verified += told.verified
        document.stale += told.stale
        document.unverifiable += told.unverifiable
        rules = dict(document.rules)
        for rule, count in told.rules.items():
            rules[rule] = rules.get(rule, 0) + count
        document.rules = rules
        of_node.stale += told.stale
        if told.verified:
            of_node.verified_at = now
        for reason in told.reasons:
            self.because(f"{node}/{reason}")

    def because(self, reason: str) -> None:
        """Note why something is unverifiable; each reason once, and not very many."""
        reasons = self.document.reasons
        if reason not in reasons and len(reasons) < REASONS_MAX:
            self.document.reasons = [*reasons, reason]


_encode: Final = msgspec.json.encode
_decode: Final = msgspec.json.Decoder(VerifyAsked).decode


def read_verify(text: bytes) -> Verify | None:
    """Return what the journal kept; None of a task that is not verified, or as a later version asks."""
    if not text:
        return None
    try:
        return Verify(_decode(text))
    except msgspec.DecodeError:
        return None
