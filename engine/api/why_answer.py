"""What ``GET /v1/engine/why`` says of one node: its answers, and why they are what they are."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.proof.whole import Conclusion  # noqa: TC001 - msgspec resolves the annotations


class WhyAnswer(msgspec.Struct):
    """One answer. What it did not have is null."""

    encoding: Annotated[str, Meta(description="`Accept-Encoding` it was asked for with")]
    status: int
    age_s: int | None
    etag: str | None
    last_modified: str | None
    vary: str | None
    cache_status: Annotated[str | None, Meta(description="RFC 9211")]
    hit: Annotated[bool | None, Meta(description="out of this cache, as it says; null: it does not say")]
    bytes: int
    digest: Annotated[str | None, Meta(description="SHA-256; null: longer than `body_max_bytes`")]
    verdict: Annotated[
        Literal["verified", "stale", "unverifiable"] | None,
        Meta(description="beside the origin; null: there is none to ask"),
    ]
    rule: Annotated[str | None, Meta(description="by what that was decided")]


class WhyNode(msgspec.Struct):
    """What one node serves, and why."""

    name: str
    layer: str
    driver: str
    state: str
    conclusion: Conclusion
    sentence: str
    answers: Annotated[list[WhyAnswer], Meta(description="the one that tells most first")]
    error: Annotated[str, Meta(description="why there is no answer")]
    filled: Annotated[bool, Meta(description="it had nothing, and this look has filled it")]
    open: Annotated[bool, Meta(description="nothing shows its content: it may be new, or not")] = False
