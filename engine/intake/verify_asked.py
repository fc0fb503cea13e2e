"""How a task is to be verified: as it asks, or as is configured. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import RequestError
from engine.intake.urls import normalise_url
from engine.tasks.verify import Verify, VerifyAsked

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import ProofConfig
    from engine.intake.task_body import TaskBody


class Verifying:
    """Says of each body what is to be verified.

    Args:
        config: what holds for bodies that do not say; None: nothing is verified.
    """

    def __init__(self, config: ProofConfig | None = None) -> None:
        self._default: VerifyAsked | None = None
        self._sample_count = 20 if config is None else config.sample_count
        if config is not None and config.verify == "sample":
            self._default = VerifyAsked("sample", config.sample_count)
        elif config is not None and config.verify == "all":
            self._default = VerifyAsked("all")

    def unasked(self) -> Verify | None:
        """Return the verification of a purge by URL that does not say; None: it has none."""
        return None if self._default is None else Verify(self._default)

    def of(self, asked: TaskBody, allows_host: Callable[[str], bool]) -> Verify | None:
        """Return the verification of a checked body; None: it has none.

        Raises:
            RequestError: 422; a URL to be visited is none, or of a host that the client may not purge.
        """
        verify = asked.verify
        if verify is msgspec.UNSET:
            return self.unasked() if asked.action == "purge" and asked.kind == "url" else None
        if isinstance(verify, bool):
            return Verify(VerifyAsked("all")) if verify else None
        if isinstance(verify.sample, int):
            return Verify(VerifyAsked("sample", verify.sample))
        assert isinstance(verify.urls, list)
        urls: dict[str, None] = {}
        for place, text in enumerate(verify.urls):
            where = f"verify.urls[{place}]"
            url, host = normalise_url(text, where)
            if not allows_host(host):
                raise RequestError(
                    422, f"{where}: host {host!r} is outside the sites that may be purged", field=where
                )
            urls[url] = None
        return Verify(VerifyAsked("urls", urls=tuple(urls)))
