"""What a visitor, or the engine at the origin, was answered."""

from __future__ import annotations

from typing import Final

import msgspec

_AGE_DIGITS_MAX: Final = 9


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, whole. Fields that it did not have are empty texts."""

    status: int
    asked_at: float = 0.0  #: `time.monotonic` when it was asked for
    first_byte_s: float = 0.0  #: from the request, connecting included, until its head was there
    fields: dict[str, str] = {}  #: by name in lower case; several of one name are joined by ", "
    body_bytes: int = 0  #: as sent; up to where it was read, when `is_whole` is False
    is_whole: bool = True  #: False: longer than the engine reads
    digest: str = ""  #: SHA-256 of the body as sent, hex; empty when it was not read whole
    content_digest: str = ""  #: of what a gzip body holds, else as `digest`; empty: it could not be unpacked

    def field(self, name: str) -> str:
        """Return a field by its name in lower case, or an empty text."""
        return self.fields.get(name, "")

    @property
    def etag(self) -> str:
        """Its entity tag, as sent."""
        return self.field("etag")

    @property
    def strong_etag(self) -> str:
        """Its entity tag, if that stands for every byte; else empty."""
        etag = self.etag
        return etag if etag.startswith('"') and etag.endswith('"') and len(etag) > 1 else ""

    @property
    def last_modified(self) -> str:
        """When its content changed, as sent."""
        return self.field("last-modified")

    @property
    def age_s(self) -> int | None:
        """Its ``Age`` in seconds; None without one, or with one that is no number or several."""
        age = self.field("age")
        return int(age) if age.isdecimal() and len(age) <= _AGE_DIGITS_MAX and age.isascii() else None

    @property
    def cache_status(self) -> str:
        """Its ``Cache-Status`` (RFC 9211), the cache nearest to the visitor last."""
        return self.field("cache-status")

    @property
    def content_encoding(self) -> str:
        """Its ``Content-Encoding`` in lower case; empty for none."""
        encoding = self.field("content-encoding").lower()
        return "" if encoding == "identity" else encoding
